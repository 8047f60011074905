"""The client without `await`: `Client`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from eager_sgl.budget.sequences import Account
from eager_sgl.config import REASONING_END, SamplingConfig
from eager_sgl.core import PromptResult
from eager_sgl.engine.client import Prompt
from eager_sgl.engine.gate.choice import GateChoice
from eager_sgl.engine.limits import REQUEST_TIMEOUT, SILENCE_TIMEOUT
from eager_sgl.engine.loop import run
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.transport import Transport
from eager_sgl.generate.client import STREAM_INTERVAL, AsyncClient
from eager_sgl.generate.events import Event
from eager_sgl.generate.mapping import Budget, MapItem, OnLeft
from eager_sgl.generate.observers import OnProgress
from eager_sgl.generate.stream import Stream
from eager_sgl.methods import Method
from eager_sgl.search.utility import Utility

__all__ = ["BlockingStream", "Client"]

_T = TypeVar("_T")


class Client:
    """`AsyncClient` without `await`; safe to use from many threads.

        with Client("http://localhost:30000") as client:
            result = client.generate(prompt, EagerInit(EagerConfig(threshold=2.2)))

    One thread serves all clients of a process. Ctrl-C ends all requests of the prompt on the
    server; `partial_of` returns what it has generated.

    Args:
        servers: base URL of a server, or of several.
        api_key, timeout, request_timeout, silence_timeout, chat_options, router, gate: as of
            `AsyncClient`.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        request_timeout: float = REQUEST_TIMEOUT,
        silence_timeout: float = SILENCE_TIMEOUT,
        chat_options: Mapping[str, object] | None = None,
        router: str | None = None,
        gate: GateChoice = "auto",
    ) -> None:
        self._client = AsyncClient(
            servers,
            api_key=api_key,
            timeout=timeout,
            request_timeout=request_timeout,
            silence_timeout=silence_timeout,
            chat_options=chat_options,
            router=router,
            gate=gate,
        )

    def __enter__(self) -> Self:
        run(self._client.replicas())
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; prompts that still run fail."""
        run(self._client.aclose())

    @property
    def transports(self) -> list[Transport]:
        """Send the requests, one per server."""
        return self._client.transports

    @property
    def profile(self) -> ServerProfile:
        """Facts about the servers and their model, once the client is connected."""
        return self._client.profile

    def is_answering(self) -> bool:
        """Whether a server is up: one request to each, with a short timeout."""
        return run(self._client.is_answering())

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The token ids of a prompt."""
        return run(self._client.encode(prompt))

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The texts of several token sequences, special tokens left out."""
        return run(self._client.decode(sequences))

    def generate(
        self,
        prompt: Prompt,
        method: Method,
        *,
        account: Account | None = None,
        timeout: float | None = None,
        max_tokens: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> PromptResult:
        """The sequences of a prompt; see `AsyncClient.generate`."""
        return run(
            self._client.generate(
                prompt,
                method,
                account=account,
                timeout=timeout,
                max_tokens=max_tokens,
                on_progress=on_progress,
            )
        )

    def stream(
        self,
        prompt: Prompt,
        method: Method,
        *,
        account: Account | None = None,
        timeout: float | None = None,
        max_tokens: int | None = None,
        interval: int = STREAM_INTERVAL,
    ) -> BlockingStream:
        """The growth of a prompt's tree as events; see `AsyncClient.stream`."""

        def start() -> Stream:
            return self._client.stream(
                prompt,
                method,
                account=account,
                timeout=timeout,
                max_tokens=max_tokens,
                interval=interval,
            )

        return BlockingStream(start)

    def map(
        self,
        prompts: Sequence[Prompt],
        method: Method | Sequence[Method],
        *,
        budget: Budget | None = None,
        utility: Utility | None = None,
        concurrency: int | None = None,
        timeout: float | None = None,
        max_tokens: int | None = None,
        on_left: OnLeft | None = None,
    ) -> Iterator[MapItem]:
        """The results of many prompts, as they finish; see `AsyncClient.map`."""
        items = self._client.map(
            prompts,
            method,
            budget=budget,
            utility=utility,
            concurrency=concurrency,
            timeout=timeout,
            max_tokens=max_tokens,
            on_left=on_left,
        )
        return _blocking(items)

    def resume(
        self,
        prompt: Prompt,
        result: PromptResult,
        num_sequences: int,
        sampling: SamplingConfig,
        *,
        threshold: float = 0.0,
        reasoning_end: str | None = REASONING_END,
        seed: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> PromptResult:
        """Take the deferred branches of highest entropy; see `AsyncClient.resume`."""
        return run(
            self._client.resume(
                prompt,
                result,
                num_sequences,
                sampling,
                threshold=threshold,
                reasoning_end=reasoning_end,
                seed=seed,
                on_progress=on_progress,
            )
        )


class BlockingStream:
    """A `Stream` without `await`: an iterator, and a context manager.

    Args:
        start: makes the stream, in the thread of the connections.
    """

    def __init__(self, start: Callable[[], Stream]) -> None:
        self._stream = run(_call(start))

    @property
    def result(self) -> PromptResult | None:
        """The result once the stream has ended, partial if it was left; None before that."""
        return self._stream.result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all requests of the tree, and wait until they have ended."""
        run(self._stream.aclose())

    def __iter__(self) -> Iterator[Event]:
        try:
            yield from _blocking(self._stream)
        finally:
            self.close()


async def _call(make: Callable[[], _T]) -> _T:
    return make()


def _blocking(items: AsyncGenerator[_T] | Stream) -> Iterator[Any]:
    """The items of an asynchronous iterator, in the thread of the caller."""
    try:
        while (item := run(_next(items))) is not None:
            yield item
    finally:
        run(items.aclose())


async def _next(items: AsyncGenerator[_T] | Stream) -> Any:
    return await anext(items, None)
