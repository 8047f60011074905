"""The command: `python -m eager_sgl.server --server URL | --model MODEL`."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eager_sgl.engine.loop import GC_THRESHOLD
from eager_sgl.errors import EagerError
from eager_sgl.server.settings import EndpointSettings, parser, runtime_arguments, settings_of
from eager_sgl.server.traffic.lines import LogFormatter

__all__ = ["main"]

_KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, which otherwise send requests into closed ones."""


def main(argv: Sequence[str] | None = None, program: str = "python -m eager_sgl.server") -> int:
    """Serve until SIGTERM or Ctrl-C, then finish the running requests.

    Returns:
        The exit status.
    """
    command = parser(program)
    arguments, rest = command.parse_known_args(argv)
    if rest and arguments.server is not None:
        command.error(f"{rest[0]} is no option of a server in front of --server")
    _log_to_stderr()
    gc.set_threshold(GC_THRESHOLD)
    try:
        settings = settings_of(arguments)
        with _running(arguments.model, runtime_arguments(rest), settings) as ready:
            _serve(ready)
    except (EagerError, ValueError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0


def _log_to_stderr() -> None:
    """All messages of this process have the form of its log, whatever SGLang has set up."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    for name in ("eager_sgl", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)


@contextlib.contextmanager
def _running(
    model: str | None, runtime: Mapping[str, object], settings: EndpointSettings
) -> Iterator[EndpointSettings]:
    """The settings with the address of the embedded server, where there is one."""
    if model is None:
        yield settings
        return
    from eager_sgl.embedded.runtime import EmbeddedRuntime

    runtime = {"enable_cache_report": True, **runtime}
    with tempfile.TemporaryDirectory(prefix="eager_sgl_server_") as folder:
        log_path = Path(folder) / "runtime.log"
        with EmbeddedRuntime(
            model, log_path=log_path, server_args=runtime, on_progress=_print
        ) as server:
            yield replace(settings, servers=(server.url,), server_key=server.api_key)


def _print(stage: str) -> None:
    print(f"SGLang: {stage}", file=sys.stderr, flush=True)


def _serve(settings: EndpointSettings) -> None:
    import uvicorn

    from eager_sgl.server.app import create_app

    # uvicorn drains, and then raises the signal again for the handler that was there before.
    signal.signal(signal.SIGTERM, lambda *_: None)

    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
    )


if __name__ == "__main__":
    sys.exit(main())
