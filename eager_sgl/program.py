"""EAGer-init and Full Parallel as SGLang programs.

    state = eager_init.run(prompt="...", config=EagerConfig(threshold=2.0), backend=connect(url))
    result = state.ret_value

Inside another program, `set_prompt` begins it, `eager_generate` branches from whatever its state
holds so far, and `continue_from` goes on from the sequence that was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from contextlib import nullcontext
from dataclasses import replace

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl.adaptive_schedule import AdaptiveSchedule
from eager_sgl.adaptive_threshold import AdaptiveThreshold
from eager_sgl.budget.sequences import Account
from eager_sgl.budget.tokens import Bidder
from eager_sgl.callbacks import PlugIn
from eager_sgl.config import EagerConfig, SamplingConfig, SearchConfig
from eager_sgl.core import PromptResult, Sequence, TokenCounts
from eager_sgl.engine.endpoint import Prompt, endpoint_of
from eager_sgl.executor import TreeExecutor
from eager_sgl.methods import Schedule, inexact_steps_of, schedule_of
from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.rounds import IsEnough, MayCost
from eager_sgl.search.stopping import Stop
from eager_sgl.tree import TokenTree

__all__ = [
    "OnProgress",
    "continue_from",
    "eager_generate",
    "eager_init",
    "parallel",
    "resume",
    "search",
    "set_prompt",
]

OnProgress = Callable[[TokenCounts, int], None]
"""Called whenever something has come: the prompt's cost so far, its running sequences."""

REASONING_END = "</think>"
"""The text that closes the reasoning of most models."""


@sgl.function  # type: ignore[untyped-decorator]
def eager_init(
    s: ProgramState,
    prompt: Prompt,
    config: EagerConfig,
    account: Account | None = None,
    on_progress: OnProgress | None = None,
    adaptive_threshold: AdaptiveThreshold | None = None,
) -> PromptResult:
    """EAGer-init on one prompt (paper, section 3); the arguments are `eager_generate`'s."""
    set_prompt(s, prompt)
    return eager_generate(
        s, config, account=account, on_progress=on_progress, adaptive_threshold=adaptive_threshold
    )


@sgl.function  # type: ignore[untyped-decorator]
def parallel(
    s: ProgramState,
    prompt: Prompt,
    num_sequences: int,
    sampling: SamplingConfig,
    on_progress: OnProgress | None = None,
    reasoning_end: str | None = REASONING_END,
) -> PromptResult:
    """Full Parallel: independent sequences that share nothing but the prompt."""
    _require_count(num_sequences)
    set_prompt(s, prompt)
    with TreeExecutor(s, sampling, reasoning_end=reasoning_end) as executor:
        if num_sequences > 1:
            executor.prefill()
        leaves = [Leaf(index, executor.tree.open_root()) for index in range(num_sequences)]
        return _run_to_the_end(executor, leaves, num_sequences, on_progress)


@sgl.function  # type: ignore[untyped-decorator]
def resume(
    s: ProgramState,
    prompt: Prompt,
    result: PromptResult,
    num_sequences: int,
    sampling: SamplingConfig,
    threshold: float = 0.0,
    on_progress: OnProgress | None = None,
    reasoning_end: str | None = REASONING_END,
) -> PromptResult:
    """Take the best branches that a prompt had not taken; the radix cache serves the prefixes.

    Args:
        prompt: as in the run that gave `result`.
        result: of `eager_init` with a `deferred_threshold`.
        num_sequences: how many to take; fewer if fewer were deferred.
        threshold: lowest entropy in nats of a branch to take.
        sampling: how the new sequences go on; they do not branch again.
        on_progress: told of progress.
        reasoning_end: the text that closes the reasoning, for `Sequence.final_text`.

    Returns:
        The new sequences alone; their parents are indices into `result`, and their counts leave
        out what `result` has paid for. There may be none.
    """
    _require_count(num_sequences)
    if not 0 <= threshold < math.inf:
        raise ValueError(f"threshold is {threshold}; it must be a finite number, at least 0")
    set_prompt(s, prompt)
    with TreeExecutor(s, sampling, reasoning_end=reasoning_end) as executor:
        leaves = [
            Leaf(index, executor.open_deferred(result, deferred), deferred.sequence, deferred.point)
            for index, deferred in enumerate(result.deferred[:num_sequences])
            if deferred.point.entropy >= threshold
        ]
        return _run_to_the_end(executor, leaves, num_sequences, on_progress)


@sgl.function  # type: ignore[untyped-decorator]
def search(
    s: ProgramState,
    prompt: Prompt,
    config: SearchConfig,
    until: Stop | None = None,
    account: Account | None = None,
    bidder: Bidder | None = None,
    on_progress: OnProgress | None = None,
) -> PromptResult:
    """A search over the tree of one prompt; the arguments are `eager_generate`'s."""
    with bidder or nullcontext():  # left even where the prompt is deferred
        set_prompt(s, prompt)
        return eager_generate(
            s, config, until=until, account=account, bidder=bidder, on_progress=on_progress
        )


def set_prompt(s: ProgramState, prompt: Prompt) -> None:
    """Begin a program with a prompt: plain text, token ids, or chat messages.

    Chat messages are rendered with the model's own template, which `sgl.user` is not.
    """
    endpoint_of(s).set_prompt(s, prompt)


def eager_generate(
    s: ProgramState,
    config: EagerConfig | SearchConfig,
    *,
    until: Stop | None = None,
    account: Account | None = None,
    bidder: Bidder | None = None,
    on_progress: OnProgress | None = None,
    adaptive_threshold: AdaptiveThreshold | None = None,
) -> PromptResult:
    """Sequences from what a state holds so far; the state itself is left as it is.

    Args:
        s: a state of any program that runs on a `TokenEndpoint`.
        config: of EAGer-init, or of a search.
        until: ends a search early, once it says so; not of EAGer-init.
        account: this prompt's part of a ledger; what is left of it caps M, and what is used is
            committed.
        bidder: this prompt's part of a ledger of tokens, for a search; left at the end, whatever
            happens.
        on_progress: told of progress.
        adaptive_threshold: of EAGer-init: gives θ, and observes the prompt's entropies; share one
            between the prompts of a model. `config.threshold` is then ignored, and the monitor is
            "chunk", since the gate reports no entropy below θ.

    Returns:
        The sequences, each with its tokens and text, and what they cost.

    Raises:
        ValueError: `until` or the bidder's rule takes or says something else than it must.
        RequestRejectedError: the state leaves no room in the model's context.
        ServerError: the server failed, or is gone.
    """
    with bidder or nullcontext():
        if adaptive_threshold is not None:
            config = _for_adaptive(config, adaptive_threshold)
        rule = None if until is None else PlugIn("until", until, ("tree", "sequences"))
        max_sequences = _max_sequences(config, account)
        with TreeExecutor(s, config.sampling, config) as executor:
            stop = None if rule is None else _with_texts(rule, executor)
            may_cost = None if bidder is None else _by_bids(bidder, executor)
            known = executor.tree
            schedule = schedule_of(
                config, max_sequences, known.prompt_ids, stop, may_cost, adaptive_threshold
            )
            decision = _follow(schedule, executor, account, on_progress)
            if bidder is not None:
                bidder.leave(known.spent.generated)
            _report(on_progress, known, decision.leaves)
            return replace(
                executor.result(decision.leaves, max_sequences),
                inexact_steps=inexact_steps_of(config, known),
                entropy_histogram=schedule.entropy_histogram()
                if isinstance(schedule, AdaptiveSchedule)
                else None,
            )


def _max_sequences(config: EagerConfig | SearchConfig, account: Account | None) -> int:
    if account is None:
        return config.max_sequences
    if account.granted <= account.spent:
        raise ValueError(f"the account's {account.granted} sequences are all spent")
    return min(config.max_sequences, account.granted - account.spent)


def _follow(
    schedule: Schedule,
    executor: TreeExecutor,
    account: Account | None,
    on_progress: OnProgress | None,
) -> Decision:
    """From the prompt until nothing is running any more."""
    before = account.spent if account else 0
    executor.tree.open_root()
    decision = schedule.replay(executor.tree)
    while decision.num_alive:
        _report(on_progress, executor.tree, decision.leaves)
        executor.submit(decision)
        executor.wait()
        decision = schedule.replay(executor.tree)
        if account is not None:
            account.commit(before + len(decision.leaves) - account.spent)
    return decision


def _for_adaptive(
    config: EagerConfig | SearchConfig, adaptive_threshold: AdaptiveThreshold
) -> EagerConfig:
    if not isinstance(config, EagerConfig):
        raise ValueError(f"running is given for the search {config.order}, which has no θ")
    if config.monitor == "gate":
        raise ValueError(
            "monitor is gate, which tells no entropy below θ; a adaptive θ needs chunk"
        )
    return replace(config, monitor="chunk", threshold=adaptive_threshold.lowest)


def _with_texts(until: PlugIn, executor: TreeExecutor) -> IsEnough:
    return lambda tree, leaves: until.boolean(tree, executor.sequences(leaves), none=False)


def _by_bids(bidder: Bidder, executor: TreeExecutor) -> MayCost:
    rule = PlugIn("utility", bidder.utility, ("tree", "sequences"))

    def may_cost(tree: TokenTree, leaves: Items[Leaf], expected: float) -> bool:
        utility = rule.number(tree, executor.sequences(leaves))
        return bidder.ask(tree.spent.generated, utility, expected)

    return may_cost


def continue_from(s: ProgramState, sequence: Sequence) -> None:
    """Put a chosen sequence at the end of the state it was generated from, token for token.

    A stop token at its end is left out, so that the program can go on in the same turn.
    """
    token_ids = sequence.token_ids[:-1] if sequence.finish_reason == "stop" else sequence.token_ids
    endpoint = endpoint_of(s)
    endpoint.append_tokens(s, token_ids, endpoint.decode([token_ids])[0])


def _require_count(num_sequences: int) -> None:
    if not isinstance(num_sequences, int) or num_sequences < 1:
        raise ValueError(f"num_sequences is {num_sequences}; it must be a whole number, at least 1")


def _run_to_the_end(
    executor: TreeExecutor, leaves: list[Leaf], num_sequences: int, on_progress: OnProgress | None
) -> PromptResult:
    """All sequences at once, none of which branches any more."""
    _report(on_progress, executor.tree, leaves)
    while segments := [leaf.segment for leaf in leaves if leaf.segment.finish_reason is None]:
        executor.run_to_end(segments)
        executor.wait()
    _report(on_progress, executor.tree, leaves)
    return executor.result(leaves, num_sequences)


def _report(on_progress: OnProgress | None, tree: TokenTree, leaves: Iterable[Leaf]) -> None:
    if on_progress is not None:
        on_progress(tree.spent, sum(leaf.segment.finish_reason is None for leaf in leaves))
