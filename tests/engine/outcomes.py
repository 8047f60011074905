"""The outcome of a request that is not waited for."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

from eager_sgl.engine.protocol import Json
from eager_sgl.engine.shapes import as_object
from eager_sgl.engine.transport import Transport
from tests.fakes.http_server import ABORT, Seen

Outcomes = queue.SimpleQueue[Any]


def outcome_of(
    transport: Transport,
    build: Callable[[], Json] = dict,
    progress: Callable[[Any], None] | None = None,
) -> Any:
    """The answer or the exception that `start` passes to `done`."""
    outcomes: Outcomes = queue.SimpleQueue()
    transport.start("/generate", build, as_object, outcomes.put, progress)
    return outcomes.get(timeout=30)


def without_aborts(seen: Sequence[Seen]) -> list[Seen]:
    return [request for request in seen if request.path != ABORT]
