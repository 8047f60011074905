"""The servers of a run: given or started, connected, and checked while the run lasts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from eager_sgl import Method, ServerError
from eager_sgl.errors import (
    AuthenticationError,
    RequestRejectedError,
    RuntimeStoppedError,
    ServerUnreachableError,
)
from evals.config import ServerSettings
from evals.execution.progress.view import View
from evals.tasks import Sample

if TYPE_CHECKING:
    from eager_sgl import AsyncClient
    from eager_sgl.engine.client import TokenClient

__all__ = ["Host", "Server", "find_unfit", "hosted"]

SESSION_STRIDE = 7919
GATE_NOTES = {
    "plugin": "the server's plugin",
    "pickle": "a processor that requests carry; the server has no plugin",
}
NUM_TOKENISING = 16
LAUNCH_SECONDS = 3600.0
"""For a start that may download a model first; its progress is printed."""


@dataclass(frozen=True)
class Server:
    """The connected server that prompts are run on, or several of the same model.

    Attributes:
        client: sends the requests.
        urls: of the servers.
        check: raises RuntimeStoppedError once a process of a server that this run started has died.
    """

    client: AsyncClient
    urls: tuple[str, ...]
    check: Callable[[], None]

    def __str__(self) -> str:
        return ", ".join(self.urls)

    async def require_alive(self, error: BaseException) -> None:
        """Raise the error of one prompt if all others would meet it too: it ends the run."""
        self.check()
        if isinstance(error, KeyboardInterrupt | AuthenticationError | RuntimeStoppedError):
            raise error
        if isinstance(error, ServerUnreachableError) and not await self.client.is_answering():
            raise error

    async def monitor_of(self, method: Method) -> str:
        """How the steps of a method are observed, with the gate that is taken, or why none is.

        Raises:
            ServerUnsuitableError: the method requires the gate, and the server has none for it.
        """

        async def ask(client: TokenClient) -> str:
            if client.gate(method) is None:
                _, reason = client.find_gate(method)
                return "chunk" if reason is None else f"chunk (no gate: {reason})"
            return f"gate ({GATE_NOTES[client.profile.gate or 'plugin']})"

        return await (await self.client.replicas()).call(ask)


@dataclass(frozen=True)
class Host:
    """Servers that run.

    Attributes:
        settings: with their URLs.
        check: as of `Server`.
    """

    settings: ServerSettings
    check: Callable[[], None]

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Server]:
        """The servers, connected in the running event loop as long as the context lasts."""
        from eager_sgl import AsyncClient

        settings = self.settings
        async with AsyncClient(
            settings.urls,
            api_key=settings.api_key,
            request_timeout=settings.request_timeout,
            silence_timeout=settings.silence_timeout,
            chat_options=settings.chat_options,
            router=settings.router,
            gate=settings.gate,
        ) as client:
            yield Server(client, settings.urls, self.check)


@contextlib.contextmanager
def hosted(
    settings: ServerSettings, seed: int, session: int, log_path: Path, view: View
) -> Iterator[Host]:
    """The given servers, or one that lives as long as the context.

    Args:
        seed: of the server that is started.
        session: varies that seed, so that no session repeats the draws of another.
        log_path: where the server that is started writes its log.
    """
    if settings.urls:
        view.say(f"connecting to {', '.join(settings.urls)}")
        yield Host(settings, _no_check)
        return
    from eager_sgl import EmbeddedRuntime

    with EmbeddedRuntime(
        settings.model,
        log_path=log_path,
        launch_timeout=LAUNCH_SECONDS,
        server_args={"random_seed": seed + SESSION_STRIDE * session},
        on_progress=lambda stage: view.say(f"runtime: {stage}"),
    ) as runtime:
        urls = (runtime.url,)
        started = replace(settings, urls=urls, api_key=runtime.api_key, router=None)
        view.say("probing the server with short requests")
        try:
            yield Host(started, runtime.check)
        except ServerUnreachableError as error:
            runtime.check()
            raise ServerUnreachableError(f"{error}; its log is {runtime.log_path}") from error


def _no_check() -> None:
    """The state of a server that the run did not start shows in its answers alone."""


async def find_unfit(samples: Iterable[Sample], server: Server) -> dict[str, Exception]:
    """The prompts that do not fit the model, by id, and why; nothing is generated.

    Raises:
        ServerError: the server does not answer, or refuses the key.
    """
    free = asyncio.Semaphore(NUM_TOKENISING)

    async def refusal(sample: Sample) -> Exception | None:
        async with free:
            return await _refusal(sample, server)

    samples = list(samples)
    asked = [asyncio.create_task(refusal(sample)) for sample in samples]
    try:
        errors = await asyncio.gather(*asked)
    finally:
        for task in asked:
            task.cancel()
    return {
        sample.id: error for sample, error in zip(samples, errors, strict=True) if error is not None
    }


async def _refusal(sample: Sample, server: Server) -> Exception | None:
    """Why a prompt does not fit the model; None if it does."""
    client = server.client
    try:
        client.profile.room_for(len(await client.encode(sample.prompt)))
    except (RequestRejectedError, ValueError) as error:
        return error
    except ServerError as error:
        await server.require_alive(error)  # if it is alive, the requests of the prompt will fail
    return None
