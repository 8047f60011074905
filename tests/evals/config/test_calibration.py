"""θ from a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals import run
from evals.config.settings import BUNDLED_MODEL, Settings
from evals.records.identity import model_name, weights_digest
from tests.evals.fakes.scripted_run import lines

WHOLE = {
    "schema": 1,
    "theta": 0.65,
    "top_k": 20,
    "entropy_temperature": 1.0,
    "model": f"/elsewhere/{BUNDLED_MODEL.name}",
    "quantiles": {"0.99": 1.0},
}


def settings(path: Path, *arguments: str) -> Settings:
    return run.parse_settings(["--theta", str(path), *arguments], run.METHODS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "theta.json"
    path.write_text(json.dumps(WHOLE))
    return path


def test_it_gives_the_threshold(path: Path) -> None:
    assert settings(path).plan.thresholds == (0.65,)
    calibration = settings(path).stored().calibration
    assert calibration is not None
    assert (calibration["theta"], calibration["model"]) == (0.65, WHOLE["model"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "10"], "--top-k is 10; θ was calibrated for 20"),
        (
            ["--entropy-temperature", "0.6"],
            "--entropy-temperature is 0.6; θ was calibrated for 1.0",
        ),
        (
            ["--model", "some/other"],
            "the model is some/other; θ was calibrated for /elsewhere/model",
        ),
    ],
)
def test_a_mismatch_names_both_values(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        settings(path, *arguments)
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.usefixtures("scripted")
def test_the_model_of_a_server_is_compared(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(json.dumps(WHOLE | {"model": "another"}))
    folder = tmp_path / "run"
    arguments = ["--theta", str(path), "--server", "http://x", "--output-dir", str(folder)]
    assert run.main(arguments) == 1
    assert "θ was calibrated for another" in capsys.readouterr().err
    assert lines(folder) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "has schema 2; this version reads 1"),
        ({"theta": None}, "is not a calibration"),
        ({"theta": "much"}, "is not a calibration"),
        ({"theta": 4.0}, "--theta is 4.0; it must be in"),
    ],
)
def test_a_wrong_file_is_named(
    path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    path.write_text(json.dumps(WHOLE | change))
    with pytest.raises(SystemExit):
        settings(path)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00"])
def test_a_file_that_is_not_a_calibration_is_named(
    path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path.write_text(content)
    with pytest.raises(SystemExit):
        settings(path)
    assert f"{path} is not a calibration" in capsys.readouterr().err


def test_models_are_compared_by_local_weights(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two models in folders of the same name differ, and a model that moved does not."""
    moved = {"model": "/elsewhere/another", "model_digest": weights_digest(str(BUNDLED_MODEL))}
    path.write_text(json.dumps(WHOLE | moved))
    assert settings(path).plan.thresholds == (0.65,)
    path.write_text(json.dumps(WHOLE | {"model_digest": "f" * 16}))
    with pytest.raises(SystemExit):
        settings(path)
    assert "has weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B"),
        ("/hub/models--Qwen--Qwen3-4B/snapshots/0a1b2c", "Qwen/Qwen3-4B"),
        ("/srv/models/mine", "mine"),
        (str(BUNDLED_MODEL), "model"),
    ],
)
def test_the_name_of_a_model(model: str, name: str) -> None:
    assert model_name(model) == name


def test_a_digest_is_of_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    digests = set()
    for content in (b"a", b"b", b"a" * 3_000_000, b"a" * 2_999_999 + b"b"):
        weights.write_bytes(content)
        digests.add(weights_digest(str(tmp_path)))
    assert len(digests) == 4
    assert weights_digest("some/other") is None
