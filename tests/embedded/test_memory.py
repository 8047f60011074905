"""Whether a model fits the memory, from the files of its folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from eager_sgl.embedded import memory
from eager_sgl.embedded.arguments import CPU_ARGUMENTS
from eager_sgl.embedded.memory import MIN_CACHED_TOKENS, available_bytes, fitted, needs_of
from tests.conftest import REASONER

LAYERS, KV_HEADS, HEAD_DIM = 2, 2, 64
PER_TOKEN = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4
NUM_WEIGHTS = 50_000_000
NEEDED = NUM_WEIGHTS * 4 + MIN_CACHED_TOKENS * PER_TOKEN


def write_header(path: Path, *shapes: tuple[int, ...]) -> None:
    """A safetensors file without its numbers."""
    tensors = {
        str(index): {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]}
        for index, shape in enumerate(shapes)
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = {
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 8,
        "num_key_value_heads": KV_HEADS,
        "hidden_size": 8 * HEAD_DIM,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_header(tmp_path / "model-1.safetensors", (1000, 40_000))
    write_header(tmp_path / "model-2.safetensors", (10_000, 999), (10_000,))
    return tmp_path


def arguments(model: Path | str, **given: Any) -> dict[str, Any]:
    return {**CPU_ARGUMENTS, "dtype": "float32", "model_path": str(model), **given}


def test_the_needs_of_a_model_follow_from_its_files(folder: Path) -> None:
    needs = needs_of(folder, 4)
    assert needs is not None
    assert (needs.weights, needs.per_token, needs.least) == (NUM_WEIGHTS * 4, PER_TOKEN, NEEDED)


def test_the_bundled_model_needs_little() -> None:
    needs = needs_of(Path(REASONER), 4)
    assert needs is not None
    assert 0 < needs.weights < 100_000_000
    assert fitted(arguments(REASONER), is_given=False) == arguments(REASONER)


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"num_attention_heads": 0}'])
def test_a_model_whose_files_do_not_show_its_needs_is_left_to_the_server(
    folder: Path, content: str
) -> None:
    (folder / "config.json").write_text(content)
    assert needs_of(folder, 4) is None
    assert fitted(arguments("owner/name"), is_given=False) == arguments("owner/name")


@pytest.mark.parametrize(
    ("available", "fraction"), [(NEEDED * 10, 0.5), (NEEDED * 1.25, 0.81), (NEEDED * 1.2, 0.84)]
)
def test_the_share_for_a_model_grows_as_far_as_it_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, available: float, fraction: float
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: int(available))
    chosen = fitted(arguments(folder), is_given=False)["mem_fraction_static"]
    assert chosen == pytest.approx(fraction, abs=0.011)
    assert chosen * available >= NEEDED


def test_a_model_that_does_not_fit_is_refused_with_its_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 149_999_999)
    with pytest.raises(ValueError, match="there is not enough memory for") as caught:
        fitted(arguments(folder), is_given=False)
    message = str(caught.value)
    assert f"{folder} in float32: its weights take 0.2 GB" in message
    assert "which may be 0.9 of the 0.1 GB available" in message
    assert f"free {NEEDED / 0.9e9 - 0.15:.1f} GB" in message
    assert "\n" not in message


def test_a_given_share_is_kept_and_is_the_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: NEEDED * 2)
    given = arguments(folder, mem_fraction_static=0.6)
    assert fitted(given, is_given=True) == given
    with pytest.raises(ValueError, match=r"may be 0\.4 of"):
        fitted(arguments(folder, mem_fraction_static=0.4), is_given=True)


def test_the_limit_of_a_control_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    unlimited = available_bytes()
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_bytes() == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes() == pytest.approx(unlimited, rel=0.5)
