"""Short pauses between the tries of a request, and a token endpoint on the scripted server."""

from __future__ import annotations

import pytest

from eager_sgl.engine import limits
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from tests.fakes.endpoint import endpoint_of
from tests.fakes.scripted import ScriptedServer


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAUSE_JITTER", (0.001, 0.001))


@pytest.fixture
def endpoint(scripted: ScriptedServer) -> TokenEndpoint:
    return endpoint_of(scripted)
