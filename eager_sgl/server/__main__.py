"""The command: `python -m eager_sgl.server --server URL | --model MODEL`."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from eager_sgl.errors import EagerError
from eager_sgl.server.settings import Settings, parser, settings_of

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, program: str = "python -m eager_sgl.server") -> int:
    """Serve until SIGTERM or Ctrl-C, then finish the running requests.

    Returns:
        The exit status.
    """
    arguments = parser(program).parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    urls = arguments.server.split(",") if arguments.server else ["http://embedded"]
    try:
        settings = settings_of(arguments, urls)
        with _running(arguments.model, settings) as ready:
            _serve(ready)
    except (EagerError, ValueError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _running(model: str | None, settings: Settings) -> Iterator[Settings]:
    """The settings with the address of the embedded server, where there is one."""
    if model is None:
        yield settings
        return
    from eager_sgl.embedded.runtime import EmbeddedRuntime

    with tempfile.TemporaryDirectory(prefix="eager_sgl_server_") as folder:
        log_path = Path(folder) / "runtime.log"
        with EmbeddedRuntime(model, log_path=log_path, on_progress=print) as runtime:
            yield replace(settings, servers=(runtime.url,), server_key=runtime.api_key)


def _serve(settings: Settings) -> None:
    import uvicorn

    from eager_sgl.server.app import create_app

    # uvicorn drains, and then raises the signal again for the handler that was there before.
    signal.signal(signal.SIGTERM, lambda *_: None)

    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=round(settings.drain_s),
    )


if __name__ == "__main__":
    sys.exit(main())
