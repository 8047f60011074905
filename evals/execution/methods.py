"""The methods of a run by name, and the method object of a cell."""

from __future__ import annotations

from eager_sgl import RULES, AdaptiveThreshold, Bidder, EagerInit, FullParallel, Method, Stop
from eager_sgl.plugin.vocabulary import COLUMNS
from eager_sgl.voting.votes import Classes
from evals.config import Experiment
from evals.execution.journal import (
    JournaledBestFirst,
    JournaledTrieParallel,
    JournaledVote,
    JournaledWithoutReplacement,
)
from evals.records.plan import PARALLEL, SEARCHES, STAGE_ONE, SWOR, TRIE_PARALLEL, VOTES, Cell

__all__ = ["METHODS", "method_of"]

METHODS = (PARALLEL, STAGE_ONE, *RULES, *SEARCHES)
SAMPLING_SEARCHES = {SWOR: JournaledWithoutReplacement, TRIE_PARALLEL: JournaledTrieParallel}


def method_of(
    cell: Cell,
    experiment: Experiment,
    classes: Classes,
    stop: Stop | None = None,
    bidder: Bidder | None = None,
    adaptive_threshold: AdaptiveThreshold | None = None,
) -> Method:
    """The method of one stage, or the first of two, for a prompt in a cell.

    Args:
        classes: of equivalent answers, for a vote.
        stop: ends a search of the prompt early; None for never.
        bidder: the prompt's part of the tokens that a search shares with others.
        adaptive_threshold: gives EAGer-init its θ; None where that is fixed.
    """
    config, search, seed = experiment.config(cell), experiment.search_config(cell), cell.seed
    if cell.method == PARALLEL:
        limits = config.max_sequences, config.reasoning_end
        columns = COLUMNS if experiment.records else ()
        return FullParallel(config.sampling, *limits, seed=seed, columns=columns)
    if cell.method == STAGE_ONE:
        return EagerInit(config, adaptive_threshold, seed=seed)
    if cell.method in VOTES:
        return _vote(cell, experiment, classes)
    if cell.method in SAMPLING_SEARCHES:
        kind = SAMPLING_SEARCHES[cell.method]
        return kind(search, seed=seed, stop=stop, bidder=bidder)
    return JournaledBestFirst(
        search, priority=experiment.priority, seed=seed, stop=stop, bidder=bidder
    )


def _vote(cell: Cell, experiment: Experiment, classes: Classes) -> Method:
    parts = experiment.voting_in(cell)
    return JournaledVote(
        experiment.search_config(cell),
        seed=cell.seed,
        answers=classes,
        rule=parts.vote_rule(),
        weigh=parts.weigh(),
        cutting=parts.cutting(),
        shares=parts.shares,
        ahead=parts.ahead,
        outweighed=parts.outweighed,
        columns=parts.columns,
        probing=experiment.probing if parts.probes else None,
    )
