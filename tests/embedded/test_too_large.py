"""A model that is too large for the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eager_sgl.embedded.cpu_platform import accelerator_present
from eager_sgl.embedded.runtime import EmbeddedRuntime
from eager_sgl.errors import RuntimeStartError
from tests.embedded.running import START_SECONDS
from tests.embedded.test_memory import write_header


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    if accelerator_present():
        pytest.skip("the memory of an accelerator is SGLang's concern")
    sizes = {"num_hidden_layers": 100, "num_attention_heads": 64, "hidden_size": 8192}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    write_header(tmp_path / "model.safetensors", (1_000_000, 1_000_000))
    stages: list[str] = []
    with pytest.raises(RuntimeStartError, match="there is not enough memory") as caught:
        EmbeddedRuntime(
            tmp_path,
            log_path=tmp_path / "runtime.log",
            launch_timeout=START_SECONDS,
            on_progress=stages.append,
        )
    assert f"{tmp_path} in float32: its weights take 4,000.0 GB" in str(caught.value)
    assert "starting the scheduler" not in stages
