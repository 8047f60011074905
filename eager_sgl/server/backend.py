"""The backend `eager` of `sglang serve MODEL --model-type eager`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang.cli.serve_backends import ServeBackend, ServeRequest

__all__ = ["backend"]


def backend() -> ServeBackend:
    """The backend, for SGLang's entry point group `sglang.serve_backends`."""
    from sglang.cli.serve_backends import ServeBackend

    return ServeBackend(api_version=1, run=_run)


def _run(request: ServeRequest) -> None:
    from eager_sgl.server.__main__ import main

    if status := main(request.argv, program="sglang serve --model-type eager"):
        sys.exit(status)
