"""The methods of a run as `config.json` has them, and the rules that end its searches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from eager_sgl import (
    RULES,
    Consensus,
    EagerConfig,
    EagerInit,
    Method,
    Reallocation,
    SearchConfig,
    Solved,
    Stop,
)
from eager_sgl import Sequence as Generated
from eager_sgl.tree import TokenTree
from evals.config import CONSENSUS, VERIFIER, Experiment, VoteOptions
from evals.execution.methods import method_of
from evals.records.header import StoredConfig
from evals.records.plan import SEARCHES
from evals.records.record import PromptRecord

__all__ = ["experiment_of", "first_method", "is_end_recorded"]


def experiment_of(experiment: Experiment, config: StoredConfig) -> Experiment:
    """The experiment with the plan and the methods of a stored configuration.

    Raises:
        ValueError: the configuration has a value that its method refuses.
    """
    stored, options = msgspec.to_builtins(config.eager), dict(config.search.options)
    priority = str(options.pop("priority", experiment.priority))
    threshold = config.plan.thresholds[0] or math.log(config.eager.top_k)
    shared = {name: stored[name] for name in ("top_k", "reasoning_end", "sampling")}
    search = shared | {"width": config.search.width} | options
    return replace(
        experiment,
        plan=config.plan,
        base=msgspec.convert(stored | {"threshold": threshold}, EagerConfig),
        search=msgspec.convert(search, SearchConfig),
        priority=priority,
        token_budget=config.search.token_budget,
        # Samples that ran ahead of the decision are no part of a record.
        voting=replace(VoteOptions.restored(options), ahead=0),
        rules={name: _rule(name, fields) for name, fields in config.rules.items()},
    )


def _rule(name: str, fields: Mapping[str, int | float]) -> Reallocation:
    return replace(
        RULES[name],
        max_extra_factor=fields["max_extra_factor"],
        threshold_factor=fields["threshold_factor"],
        max_tries=int(fields["max_tries"]),
        late_factor=fields["late_factor"],
    )


def first_method(experiment: Experiment, record: PromptRecord, config: StoredConfig) -> Method:
    """The method of a result, or of its first stage, for a replay.

    An adaptive θ is that of the record, since it depended on the prompts that ran beside this one.
    """
    cell, histogram = record.cell, record.entropy_histogram
    if histogram is not None:
        return EagerInit(replace(experiment.config(cell), threshold=histogram.threshold))
    stop = _stop(record, config) if cell.method in SEARCHES else None
    return method_of(cell, experiment, lambda sequences: record.votes[: len(sequences)], stop)


def is_end_recorded(config: StoredConfig) -> bool:
    """Whether a search ends in a replay where its record ends, without a rule.

    That is so for a rule that needs more than the record has: a verifier of the user's, all
    probabilities of a tree, or the bids of other prompts.
    """
    stop = config.search.stop
    is_by_judgements = stop == CONSENSUS or (stop == VERIFIER and config.verifier is None)
    return config.search.token_budget is not None or not (stop is None or is_by_judgements)


def _stop(record: PromptRecord, config: StoredConfig) -> Stop | None:
    if is_end_recorded(config):
        return _AtEnd(len(record.sequences))
    if config.search.stop == CONSENSUS:
        return Consensus(lambda sequences: record.votes[: len(sequences)])
    if config.search.stop == VERIFIER:
        verdicts = {s.token_ids: s.correct for s in record.sequences}
        return Solved(lambda sequence: verdicts[sequence.token_ids])
    return None


class _AtEnd:
    """Ends a search at a number of sequences."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, tree: TokenTree, sequences: Sequence[Generated]) -> bool:
        return len(sequences) >= self._number
