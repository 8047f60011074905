"""The server of a run: connected or started, introduced, and watched for its end."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eager_sgl.errors import (
    AuthenticationError,
    RequestRejectedError,
    RuntimeStoppedError,
    ServerError,
    ServerUnreachableError,
)
from evals.config.settings import Settings
from evals.execution.progress import View
from evals.tasks import Sample

if TYPE_CHECKING:
    from eager_sgl.engine.endpoint import TokenEndpoint

__all__ = ["Server", "connected", "find_unfit"]

SESSION_STRIDE = 7919
TOKENISED_AT_ONCE = 16


@dataclass(frozen=True)
class Server:
    """A server that prompts are run on.

    Attributes:
        endpoint: sends the requests.
        check: raises RuntimeStoppedError once a process of the server has died, where it is ours.
    """

    endpoint: TokenEndpoint
    check: Callable[[], None]

    def require_alive(self, error: BaseException) -> None:
        """Raise what ends the run, if the error of one prompt means that: the others fail too."""
        self.check()
        if isinstance(error, KeyboardInterrupt | AuthenticationError | RuntimeStoppedError):
            raise error
        if isinstance(error, ServerUnreachableError) and not self.endpoint.is_answering():
            raise error


@contextlib.contextmanager
def connected(settings: Settings, session: int, view: View) -> Iterator[Server]:
    """The server of a run: the given one, or one that lives as long as the context.

    Args:
        session: chooses the server's seed, so that no session repeats the draws of another.
    """
    if settings.server is not None:
        view.say(f"connecting to {settings.server}")
        endpoint = _connect(settings, settings.server, settings.api_key, settings.router)
        yield Server(_introduced(endpoint, settings, view), _no_check)
        return
    from eager_sgl.embedded.runtime import EmbeddedRuntime

    # Importing SGLang takes about as long as starting the server: do both at once.
    name = "eager_sgl.program"
    importing = threading.Thread(target=importlib.import_module, args=(name,), daemon=True)
    importing.start()
    with EmbeddedRuntime(
        settings.model,
        log_path=settings.output_dir / "runtime.log",
        server_args={"random_seed": settings.plan.seeds[0] + SESSION_STRIDE * session},
        on_progress=lambda stage: view.say(f"runtime: {stage}"),
    ) as runtime:
        # Python lets a second thread into modules that the first is still importing.
        importing.join()
        try:
            endpoint = _connect(settings, runtime.url, runtime.api_key)
            yield Server(_introduced(endpoint, settings, view), runtime.check)
        except ServerUnreachableError as error:
            runtime.check()
            raise ServerUnreachableError(f"{error}; its log is {runtime.log_path}") from error


def _connect(
    settings: Settings, url: str, api_key: str | None, router: str | None = None
) -> TokenEndpoint:
    from eager_sgl.engine.endpoint import connect

    return connect(
        url,
        api_key=api_key,
        request_timeout=settings.request_timeout,
        silence_timeout=settings.silence_timeout,
        chat_options=settings.choices.chat_options,
        router=router,
    )


def _no_check() -> None:
    """Nobody but its requests tells how a server fares that is not ours."""


def _introduced(endpoint: TokenEndpoint, settings: Settings, view: View) -> TokenEndpoint:
    monitor = "gate" if endpoint.gate(settings.base) else "chunk"
    running = ", chunk at the adaptive θ" if None in settings.plan.thresholds else ""
    view.say(f"monitor: {monitor}{running}")
    return endpoint


def find_unfit(samples: Iterable[Sample], server: Server) -> dict[str, Exception]:
    """The prompts that the model cannot be given, by id, and why; nothing is generated for that.

    Raises:
        ServerError: the server is gone, or refuses the key.
    """
    found: dict[str, Exception] = {}

    def refusal(sample: Sample) -> Exception | None:
        try:
            server.endpoint.room_for(len(server.endpoint.encode(sample.prompt)))
        except (RequestRejectedError, ValueError) as error:
            return error
        except ServerError as error:
            server.require_alive(error)  # if it lives, the prompt's own requests will tell
        return None

    samples = list(samples)
    pool = ThreadPoolExecutor(TOKENISED_AT_ONCE)
    try:
        for sample, error in zip(samples, pool.map(refusal, samples), strict=True):
            if error is not None:
                found[sample.id] = error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return found
