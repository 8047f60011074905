"""How a server's entropy gate is reached, found out with real requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eager_sgl.core import Generation
from eager_sgl.engine.gate.choice import GateChoice, GateForm
from eager_sgl.engine.gate.pickled import INFO_KEY, PickledReports, pickled_params, processor_text
from eager_sgl.engine.gate.reports import PluginReports, ReportReader
from eager_sgl.engine.limits import CONNECTING
from eager_sgl.engine.protocol import Json, generate_payload, new_request_id, parse_generation
from eager_sgl.engine.shapes import ShapeError, field
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import RequestRejectedError, ServerError
from eager_sgl.plugin.vocabulary import COLUMNS, KEY, Gate
from eager_sgl.signals import retemper, top_k_entropy

__all__ = ["GateFinding", "find_gate"]

_NUM_TOKENS = 64
"""Enough for a busy server to send a part of the answer before all of it."""
_TOP_K, _TEMPERATURE = 2, 1.0
_TOLERANCE = 1e-2
"""In nats, between an entropy of the server and that of the logprobs it reports."""


class GateFinding(NamedTuple):
    """The gate of a server.

    Attributes:
        form: how it is reached; None without a gate.
        reason: why there is none, in a clause; None if there is a gate.
    """

    form: GateForm | None
    reason: str | None = None


async def find_gate(
    transport: Transport, server_info: Json, path: Sequence[int], choice: GateChoice = "auto"
) -> GateFinding:
    """The gate of a server; no pickle is sent unless the choice allows it.

    Args:
        transport: to the server.
        server_info: the answer of `/server_info`.
        path: tokens that the model generated.
        choice: the gates that may be used.
    """
    if reason := _ruled_out(server_info):
        return GateFinding(None, reason)
    reason = await _why_no_reports(transport, path, is_pickled=False)
    if reason is None:
        return GateFinding("plugin")
    if choice == "auto":
        return GateFinding(None, reason)
    if transport.has_router:
        also = "SGLang's router drops the parameters of custom logit processors"
        return GateFinding(None, f"{reason}, and {also}")
    if not server_info.get("enable_custom_logit_processor"):
        also = "it was started without --enable-custom-logit-processor"
        return GateFinding(None, f"{reason}, and {also}")
    reason = await _why_no_reports(transport, path, is_pickled=True)
    return GateFinding("pickle") if reason is None else GateFinding(None, reason)


def _ruled_out(server_info: Json) -> str | None:
    """The reason for which no gate can be used, in a clause."""
    if server_info.get("speculative_algorithm"):
        algorithm = server_info["speculative_algorithm"]
        return (
            f"it decodes speculatively ({algorithm}), and draws tokens in a verify step that the "
            "gate does not read"
        )
    if server_info.get("incremental_streaming_output"):
        return "--incremental-streaming-output leaves out tokens that were sent before"
    return None


async def _why_no_reports(
    transport: Transport, path: Sequence[int], *, is_pickled: bool
) -> str | None:
    """What the server does instead of reporting every step at θ = 0, in a clause.

    Returns:
        None if it does, the first steps before the last one is drawn.
    """
    events = _Events(is_pickled=is_pickled)
    try:
        await transport.post(
            "/generate", lambda: events.payload(path), events.read, lambda _: None, CONNECTING
        )
    except RequestRejectedError as error:
        return f"it refuses requests with a gate ({error})"
    if events.fault is None and events.is_complete():
        return None
    if not is_pickled and not events.has_reports:
        return "it has no plugin; install eager_sgl beside it"
    fault = "" if events.fault is None else f" ({events.fault})"
    return f"its gate does not report the steps that reach θ{fault}"


class _Events:
    """The events of the answer to a request at θ = 0.

    Attributes:
        fault: why one could not be read; None if all could.
        has_reports: whether any had reports, readable or not.
    """

    def __init__(self, *, is_pickled: bool) -> None:
        columns = () if is_pickled else COLUMNS
        self._gate = Gate(top_k=_TOP_K, threshold=0.0, columns=columns)
        self._is_pickled = is_pickled
        self._begin()

    def _begin(self) -> None:
        """Before a try."""
        is_pickled = self._is_pickled
        self._reader: ReportReader = (
            PickledReports(_TOP_K) if is_pickled else PluginReports(self._gate, _TEMPERATURE)
        )
        self._read: list[Generation] = []
        self.fault: str | None = None
        self.has_reports = False

    def payload(self, path: Sequence[int]) -> Json:
        """The body of a new try."""
        gate, is_pickled = self._gate, self._is_pickled
        self._begin()
        params = {
            "max_new_tokens": _NUM_TOKENS,
            "temperature": _TEMPERATURE,
            "ignore_eos": True,
            "custom_params": pickled_params(gate) if is_pickled else gate.custom_params(),
        }
        return generate_payload(
            path,
            params,
            request_id=new_request_id(),
            processor=processor_text() if is_pickled else None,
            is_stream=True,
        )

    def read(self, answer: object) -> None:
        """Keep an event, or why its reports are malformed."""
        meta = field(answer, "meta_info", dict)
        self.has_reports |= bool(meta.get(KEY) or meta.get(INFO_KEY))
        try:
            generation = parse_generation(answer, logprob_temperature=1.0, may_be_aborted=True)
            self._read.append(self._reader.add_to(generation, meta))
        except (ShapeError, ServerError) as error:
            self.fault = str(error)

    def is_complete(self) -> bool:
        """Whether all steps are reported, and some of them before the last event."""
        if not self._read:
            return False
        *early, whole = self._read
        if whole.reported != tuple(range(_NUM_TOKENS)) or whole.top is None:
            return False
        if whole.top.token_ids.shape != (_NUM_TOKENS, _TOP_K):
            return False
        return any(event.reported for event in early) and (self._is_pickled or _agrees(whole))


def _agrees(whole: Generation) -> bool:
    """Whether the columns belong to the steps that are reported."""
    if whole.top is None or whole.entropies is None:
        return False
    entropies = top_k_entropy(retemper(whole.top.logprobs, taken_at=1.0, wanted=1.0))
    return bool(np.allclose(whole.entropies, entropies, atol=_TOLERANCE))
