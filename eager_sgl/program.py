"""Methods run by SGLang programs: the loop in which a schedule decides and an executor requests.

    method = EagerInit(EagerConfig(threshold=2.0))
    state = generate.run(prompt="...", method=method, backend=connect(url))
    result = state.ret_value

Inside another program, `set_prompt` sets the prompt, `eager_generate` generates from the tokens of
the state, and `continue_from` appends a sequence to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl.budget.sequences import Account
from eager_sgl.config import REASONING_END, SamplingConfig, require_whole
from eager_sgl.core import PromptResult, Sequence, TokenCounts
from eager_sgl.engine.endpoint import Prompt, TokenEndpoint, endpoint_of
from eager_sgl.executor import TreeExecutor
from eager_sgl.methods import FullParallel, Method
from eager_sgl.schedule import Decision, FixedSchedule, Leaf, Schedule

__all__ = [
    "OnProgress",
    "continue_from",
    "eager_generate",
    "generate",
    "generate_all",
    "resume",
    "set_prompt",
]

OnProgress = Callable[[TokenCounts, int], None]
"""(cost so far, number of running sequences) -> None; called after every answer."""


@sgl.function  # type: ignore[untyped-decorator]
def generate(
    s: ProgramState,
    prompt: Prompt,
    method: Method,
    account: Account | None = None,
    on_progress: OnProgress | None = None,
) -> PromptResult:
    """Sequences from a prompt; the arguments are those of `eager_generate`."""
    with method.bidder or nullcontext():  # left even if the prompt is refused
        set_prompt(s, prompt)
        return _generate(s, method, account, on_progress)


def eager_generate(
    s: ProgramState,
    method: Method,
    *,
    account: Account | None = None,
    on_progress: OnProgress | None = None,
) -> PromptResult:
    """Sequences from the tokens that a state holds so far; the state itself does not change.

    Args:
        s: a state of any program that runs on a `TokenEndpoint`.
        method: an `EagerInit`, for example.
        account: this prompt's part of a ledger; what is left of it caps M, and what is used is
            committed.
        on_progress: called with the cost.

    Returns:
        The sequences, each with its tokens and text, and what they cost.

    Raises:
        ValueError: a stop rule or utility returns something else than its role requires.
        RequestRejectedError: the state leaves no room in the model's context.
        ServerError: the server failed, or is gone.
    """
    with method.bidder or nullcontext():
        return _generate(s, method, account, on_progress)


def _generate(
    s: ProgramState, method: Method, account: Account | None, on_progress: OnProgress | None
) -> PromptResult:
    max_sequences = _max_sequences(method, account)
    with TreeExecutor(s, method) as executor:
        tree = executor.tree
        schedule = method.schedule(tree, max_sequences, executor.sequences)
        if len(tree.segments) > 1:
            executor.prefill()
        decision = _grow(executor, schedule, account, on_progress)
        if method.bidder is not None:
            method.bidder.leave(tree.spent.generated)
        return method.annotate(executor.result(decision, max_sequences), tree)


def _max_sequences(method: Method, account: Account | None) -> int:
    if account is None:
        return method.max_sequences
    if account.granted <= account.spent:
        raise ValueError(f"the account's {account.granted} sequences are all spent")
    return min(method.max_sequences, account.granted - account.spent)


def _grow(
    executor: TreeExecutor,
    schedule: Schedule,
    account: Account | None,
    on_progress: OnProgress | None,
) -> Decision:
    """Generate until all sequences have ended; the last decision."""
    before = account.spent if account else 0
    decision = schedule.replay(executor.tree)
    while decision.num_alive:
        _report(on_progress, executor, decision)
        executor.submit(decision)
        executor.wait()
        decision = schedule.replay(executor.tree)
        if account is not None:
            account.commit(before + len(decision.leaves) - account.spent)
    _report(on_progress, executor, decision)
    return decision


def _report(on_progress: OnProgress | None, executor: TreeExecutor, decision: Decision) -> None:
    if on_progress is not None:
        on_progress(executor.tree.spent, decision.num_alive)


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
    """Take the deferred branches of highest entropy; the radix cache serves their prefixes.

    Args:
        prompt: as in the run that gave `result`.
        result: of `EagerInit` with a `deferred_threshold`.
        num_sequences: maximum number of branches to take.
        threshold: lowest entropy in nats of a branch to take.
        sampling: how the new sequences continue; they do not branch again.
        on_progress: called with the cost.
        reasoning_end: the text that closes the reasoning, for `Sequence.final_text`.

    Returns:
        The new sequences; their parents are indices in `result`, and the counts do not contain the
        tokens that `result` has counted. There may be none.
    """
    require_whole("num_sequences", num_sequences, 1)
    if not 0 <= threshold < math.inf:
        raise ValueError(f"threshold is {threshold}; it must be a finite number, at least 0")
    set_prompt(s, prompt)
    method = FullParallel(sampling, num_sequences, reasoning_end)
    with TreeExecutor(s, method) as executor:
        leaves = tuple(
            Leaf(index, executor.open_deferred(result, deferred), deferred.sequence, deferred.point)
            for index, deferred in enumerate(result.deferred[:num_sequences])
            if deferred.point.entropy >= threshold
        )
        decision = _grow(executor, FixedSchedule(leaves), None, on_progress)
        return executor.result(decision, num_sequences)


def set_prompt(s: ProgramState, prompt: Prompt) -> None:
    """Set the prompt of a new state: plain text, token ids, or chat messages.

    Chat messages are rendered with the model's template, which `sgl.user` does not use.
    """
    endpoint_of(s).set_prompt(s, prompt)


def continue_from(s: ProgramState, sequence: Sequence) -> None:
    """Append a sequence to the state it was generated from, token for token.

    A stop token at its end is omitted, so that the program can continue in the same turn.
    """
    endpoint, token_ids = endpoint_of(s), sequence.open_token_ids
    endpoint.append_tokens(s, token_ids, endpoint.decode([token_ids])[0])


def generate_all(
    prompts: Items[Prompt], methods: Iterable[Method], backend: TokenEndpoint, num_threads: int
) -> list[PromptResult]:
    """Run several prompts at once, one per thread.

    Args:
        methods: one per prompt; `itertools.repeat(method)` for the same.
        num_threads: number of prompts that run at the same time.

    Raises:
        ValueError, ServerError: the error of the first prompt that failed, once all have ended.
    """

    def run(prompt: Prompt, method: Method) -> PromptResult:
        result: PromptResult = generate.run(prompt=prompt, method=method, backend=backend).ret_value
        return result

    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(run, prompts, methods))
