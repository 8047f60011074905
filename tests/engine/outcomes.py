"""The outcome of a request for tokens, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.shapes import as_object
from eager_sgl.engine.transport import Transport
from tests.fakes.http_server import ABORT, Seen


def outcome_of(
    transport: Transport,
    build: Callable[[], Json] = dict,
    progress: Callable[[Any], None] | None = None,
) -> Any:
    """The answer, which may be partial, or the exception in its place."""
    work = transport.post("/generate", build, as_object, progress, may_be_partial=True)
    try:
        return run(work)
    except Exception as error:
        return error


def without_aborts(seen: Sequence[Seen]) -> list[Seen]:
    return [request for request in seen if request.path != ABORT]
