"""One prompt by a method, from its text to its result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from eager_sgl.budget.sequences import Account
from eager_sgl.core import PromptResult
from eager_sgl.engine.client import Prompt
from eager_sgl.engine.replicas import Replicas
from eager_sgl.errors import PromptTimeoutError
from eager_sgl.generate.growth import Encoded, Growth, encoded, planted
from eager_sgl.generate.limits import UNLIMITED, PromptLimits
from eager_sgl.generate.observers import Observer
from eager_sgl.generate.reading import Reader
from eager_sgl.generate.results import finished
from eager_sgl.generate.workers import in_worker
from eager_sgl.methods import Method
from eager_sgl.schedule import Schedule
from eager_sgl.tree import TokenTree

__all__ = ["grow"]


async def grow(
    replicas: Replicas,
    prompt: Prompt,
    method: Method,
    *,
    account: Account | None = None,
    limits: PromptLimits = UNLIMITED,
    observers: Sequence[Observer] = (),
) -> PromptResult:
    """The sequences of a prompt by a method.

    Raises:
        ValueError: the prompt is empty, the account is spent, or a rule of the user's returns
            something else than its role requires.
        RequestRejectedError: the prompt leaves no room in the model's context.
        ServerError: no server answers, or one refused a request.
    """
    with method.bidder or contextlib.nullcontext():  # left even if the prompt is refused
        max_sequences = _max_sequences(method, account)
        started = asyncio.get_running_loop().time()
        tokens = await _tokens_in_time(replicas, prompt, method, limits)
        limits = limits.after(asyncio.get_running_loop().time() - started)
        async with planted(replicas, tokens, method, limits) as (executor, reader):
            schedule = await _schedule(method, executor.tree, max_sequences, reader)
            growth = Growth(executor, schedule, method, account, observers)
            return await finished(growth, reader, method, max_sequences, limits)


async def _tokens_in_time(
    replicas: Replicas, prompt: Prompt, method: Method, limits: PromptLimits
) -> Encoded:
    """The tokens of a prompt and its method.

    Raises:
        PromptTimeoutError: they have not arrived within the time of the prompt.
    """
    try:
        async with asyncio.timeout(limits.timeout) as scope:
            return await encoded(replicas, prompt, method)
    except TimeoutError:
        if not scope.expired():
            raise
        raise PromptTimeoutError(
            f"the prompt was not tokenised within its timeout of {limits.timeout:g} s"
        ) from None


async def _schedule(
    method: Method, tree: TokenTree, max_sequences: int, reader: Reader
) -> Schedule:
    """The schedule of a method; searches try the functions of the user's."""

    def make() -> Schedule:
        return method.schedule(tree, max_sequences, reader.read)

    return await in_worker(make) if method.decides_in_thread else make()


def _max_sequences(method: Method, account: Account | None) -> int:
    if account is None:
        return method.max_sequences
    if account.granted <= account.spent:
        raise ValueError(f"the account's {account.granted} sequences are all spent")
    return min(method.max_sequences, account.granted - account.spent)
