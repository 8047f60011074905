"""The probe of the gate: a server that does not report every step has none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eager_sgl.engine.gate.probe import why_no_gate
from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import GATE_REPORT, Json
from tests.fakes.scripted import ScriptedServer, mixed_distribution

ALLOWED: Json = {"enable_custom_logit_processor": True}


class SpoilingServer(ScriptedServer):
    """Changes the `meta_info` of its answers."""

    def __init__(self, spoil: Callable[[Json], object]) -> None:
        super().__init__(mixed_distribution(1), allows_gate=True)
        self._spoil = spoil

    def answer(self, path: str, body: Json | None = None) -> Json:
        answer = super().answer(path, body)
        self._spoil(answer["meta_info"])
        return answer


def test_a_server_that_reports_every_step_has_a_gate() -> None:
    assert run(why_no_gate(SpoilingServer(lambda meta: None), ALLOWED, (9,))) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: meta.pop(GATE_REPORT),
        lambda meta: meta[GATE_REPORT].pop(),
        lambda meta: meta[GATE_REPORT][0].pop(),
        lambda meta: meta[GATE_REPORT][-1].__setitem__(0, 99),
        lambda meta: meta.update(
            {"finish_reason": {"type": "abort", "message": "Abort"}, GATE_REPORT: []}
        ),
    ],
    ids=["none", "one less", "no logprobs", "no such step", "aborted"],
)
def test_a_server_that_reports_otherwise_has_no_gate(spoil: Callable[[Json], object]) -> None:
    reason = run(why_no_gate(SpoilingServer(spoil), ALLOWED, (9,)))
    assert reason == "its custom logit processors do not report the steps that reach θ"
