"""The result of a prompt: whole, or what existed when it was ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import replace

from eager_sgl.core import PromptResult, Sequence, Stopped
from eager_sgl.engine.limits import ABORT_TIMEOUT
from eager_sgl.errors import ServerError
from eager_sgl.generate.growth import Growth
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.reading import Reader
from eager_sgl.generate.workers import in_worker
from eager_sgl.methods import Method
from eager_sgl.schedule import Leaf, deferred_branches, sequences_of

__all__ = ["finished", "partial_of"]


async def finished(
    growth: Growth, reader: Reader, method: Method, max_sequences: int, limits: PromptLimits
) -> PromptResult:
    """The whole result of a growth, or what exists when its time or tokens are used up.

    Raises:
        Exception, CancelledError: with what exists by then, see `partial_of`.
    """
    stopped: Stopped | None = None
    try:
        try:
            async with asyncio.timeout(limits.timeout) as scope:
                stopped = await growth.run(limits.max_tokens)
                if stopped is None:
                    return await _result(growth, reader, method, max_sequences, None)
        except TimeoutError:
            if not scope.expired():
                raise
            stopped = "timeout"
        await growth.stop()
        return await _result(growth, reader, method, max_sequences, stopped)
    except (Exception, asyncio.CancelledError) as error:
        await growth.executor.stop()  # without a report: the error may be an observer's
        stopped = "error" if isinstance(error, Exception) else "cancelled"
        partial = await _result(growth, reader, method, max_sequences, stopped)
        error.partial = partial  # type: ignore[union-attr]
        raise


async def _result(
    growth: Growth,
    reader: Reader,
    method: Method,
    max_sequences: int,
    stopped: Stopped | None,
) -> PromptResult:
    executor, decision = growth.executor, growth.decision
    tree, monitoring = executor.tree, method.monitoring
    leaves = [leaf for leaf in decision.leaves if leaf.segment.end or not stopped]
    if method.bidder is not None:
        method.bidder.leave(tree.spent.generated)
    keeps_deferred = monitoring is not None and monitoring.deferred_threshold is not None
    result = PromptResult(
        prompt_ids=tree.prompt_ids,
        sequences=await _sequences(reader, leaves, stopped),
        counts=tree.counts(leaf.segment for leaf in leaves),
        max_sequences=max_sequences,
        deferred=deferred_branches(leaves) if keeps_deferred else (),
        monitor=executor.monitor,
        entropy_histogram=decision.entropy_histogram,
        stopped=stopped,
    )
    if method.decides_in_thread:
        return await in_worker(lambda: method.annotate(result, tree))
    return method.annotate(result, tree)


async def _sequences(
    reader: Reader, leaves: Items[Leaf], stopped: Stopped | None
) -> tuple[Sequence, ...]:
    """The sequences of leaves; of a partial result without texts if no server decodes them."""
    if not stopped:
        return await reader.sequences(leaves)
    try:
        async with asyncio.timeout(ABORT_TIMEOUT):
            sequences = await reader.sequences(leaves)
    except (ServerError, TimeoutError):
        sequences = sequences_of(leaves)
    return tuple(_renumbered(sequences, leaves))


def _renumbered(sequences: Items[Sequence], leaves: Items[Leaf]) -> Iterator[Sequence]:
    """The sequences with their parents' positions: the leaves of a partial result have gaps.

    The parents of resumed sequences are those of an earlier result.
    """
    positions = {leaf.index: position for position, leaf in enumerate(leaves)}
    for sequence, leaf in zip(sequences, leaves, strict=True):
        first, _ = leaf.segment.lineage()[0]
        if sequence.parent is None or first.is_given:
            yield sequence
        else:
            yield replace(sequence, parent=positions[sequence.parent])


def partial_of(error: BaseException) -> PromptResult | None:
    """The partial result of a prompt that an exception has ended; None without any.

    Args:
        error: that ended the prompt; an `asyncio.CancelledError`, a `TimeoutError` that a
            cancellation became, and a `KeyboardInterrupt` among them.
    """
    seen: BaseException | None = error
    while seen is not None:
        partial: PromptResult | None = getattr(seen, "partial", None)
        if partial is not None:
            return partial
        seen = seen.__cause__ or seen.__context__
    return None
