"""The precision in which a machine without an accelerator computes."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest

from eager_sgl.embedded import precision, threads
from eager_sgl.embedded.precision import dtype_of
from tests.conftest import REASONER


@pytest.fixture(autouse=True)
def cpu_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a CPU that multiplies bfloat16."""
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_int8\n")
    monkeypatch.setattr(precision, "CPU_FLAGS", path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder that is not small, without a configuration."""
    monkeypatch.setattr(threads, "SMALL_MODEL_BYTES", 1)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"text_config": {"dtype": "bfloat16"}}, "bfloat16"),
        ({"text_config": {}, "torch_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16"}, "float32"),  # bfloat16 would round its weights
        ({"dtype": "float32"}, "float32"),
        ({}, "float32"),
        ([], "float32"),
    ],
)
def test_a_model_in_bfloat16_is_computed_in_it(folder: Path, config: object, dtype: str) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    assert dtype_of(str(folder)) == dtype


def test_a_cpu_that_emulates_it_computes_in_float32(folder: Path, cpu_flags: Path) -> None:
    (folder / "config.json").write_text('{"dtype": "bfloat16"}')
    cpu_flags.write_text("flags : fpu avx2 avx512f\n")
    assert dtype_of(str(folder)) == "float32"
    cpu_flags.unlink()
    assert dtype_of(str(folder)) == "float32"


@pytest.mark.usefixtures("folder")
def test_the_configuration_of_a_hub_id_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = tmp_path / "downloaded.json"
    downloaded.write_text('{"dtype": "bfloat16"}')
    asked: list[tuple[str, str, str | None]] = []

    def download(repo_id: str, filename: str, revision: str | None) -> str:
        asked.append((repo_id, filename, revision))
        return str(downloaded)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert dtype_of("owner/name", "v1") == "bfloat16"
    assert asked == [("owner/name", "config.json", "v1")]


@pytest.mark.usefixtures("folder")
def test_a_hub_that_cannot_be_reached_leaves_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(repo_id: str, filename: str, revision: str | None) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert dtype_of("owner/name") == "float32"


def test_the_bundled_reasoner_is_computed_in_float32() -> None:
    assert dtype_of(str(REASONER)) == "float32"
