"""The server of a run: connected or started, and checked while the run lasts."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from eager_sgl import ServerError
from eager_sgl.errors import (
    AuthenticationError,
    RequestRejectedError,
    RuntimeStoppedError,
    ServerUnreachableError,
)
from evals.config import ServerSettings
from evals.execution.progress import View
from evals.tasks import Sample

if TYPE_CHECKING:
    from eager_sgl import TokenEndpoint

__all__ = ["Server", "connected", "find_unfit"]

SESSION_STRIDE = 7919
NUM_TOKENISING = 16


@dataclass(frozen=True)
class Server:
    """A server that prompts are run on.

    Attributes:
        endpoint: sends the requests.
        check: raises RuntimeStoppedError once a process of a server that this run started has died.
    """

    endpoint: TokenEndpoint
    check: Callable[[], None]

    def require_alive(self, error: BaseException) -> None:
        """Raise the error of one prompt if all others would meet it too: it ends the run."""
        self.check()
        if isinstance(error, KeyboardInterrupt | AuthenticationError | RuntimeStoppedError):
            raise error
        if isinstance(error, ServerUnreachableError) and not self.endpoint.is_answering():
            raise error


@contextlib.contextmanager
def connected(
    settings: ServerSettings, seed: int, session: int, log_path: Path, view: View
) -> Iterator[Server]:
    """The given server, or one that lives as long as the context.

    Args:
        seed: of the server that is started.
        session: varies that seed, so that no session repeats the draws of another.
        log_path: where the server that is started writes its log.
    """
    if settings.url is not None:
        view.say(f"connecting to {settings.url}")
        yield Server(_connect(settings), _no_check)
        return
    from eager_sgl import EmbeddedRuntime

    # Importing SGLang takes about as long as starting the server: do both at once.
    name = "eager_sgl.program"
    importing = threading.Thread(target=importlib.import_module, args=(name,), daemon=True)
    importing.start()
    with EmbeddedRuntime(
        settings.model,
        log_path=log_path,
        server_args={"random_seed": seed + SESSION_STRIDE * session},
        on_progress=lambda stage: view.say(f"runtime: {stage}"),
    ) as runtime:
        # Python lets a second thread into modules that the first is still importing.
        importing.join()
        started = replace(settings, url=runtime.url, api_key=runtime.api_key, router=None)
        try:
            yield Server(_connect(started), runtime.check)
        except ServerUnreachableError as error:
            runtime.check()
            raise ServerUnreachableError(f"{error}; its log is {runtime.log_path}") from error


def _connect(settings: ServerSettings) -> TokenEndpoint:
    from eager_sgl import connect

    assert settings.url is not None, "no server was started"
    return connect(
        settings.url,
        api_key=settings.api_key,
        request_timeout=settings.request_timeout,
        silence_timeout=settings.silence_timeout,
        chat_options=settings.chat_options,
        router=settings.router,
    )


def _no_check() -> None:
    """The state of a server that the run did not start shows in its answers alone."""


def find_unfit(samples: Iterable[Sample], server: Server) -> dict[str, Exception]:
    """The prompts that do not fit the model, by id, and why; nothing is generated.

    Raises:
        ServerError: the server does not answer, or refuses the key.
    """
    unfit: dict[str, Exception] = {}

    def refusal(sample: Sample) -> Exception | None:
        try:
            server.endpoint.room_for(len(server.endpoint.encode(sample.prompt)))
        except (RequestRejectedError, ValueError) as error:
            return error
        except ServerError as error:
            server.require_alive(error)  # if it is alive, the requests of the prompt will fail
        return None

    samples = list(samples)
    pool = ThreadPoolExecutor(NUM_TOKENISING)
    try:
        for sample, error in zip(samples, pool.map(refusal, samples), strict=True):
            if error is not None:
                unfit[sample.id] = error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return unfit
