"""What tests of the plugin need outside SGLang."""

from __future__ import annotations

import pytest

from eager_sgl.plugin import hooks


@pytest.fixture(autouse=True)
def _not_speculative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_speculative_algorithm", lambda: None)
