"""The threads that compute on a machine without an accelerator."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from eager_sgl.embedded import threads
from eager_sgl.embedded.threads import compute_variables, is_small, num_cores
from tests.conftest import REASONER


def test_a_small_model_computes_in_one_thread() -> None:
    assert is_small(Path(REASONER))
    assert compute_variables(Path(REASONER)) == {"OMP_NUM_THREADS": "1"} | threads.HUGE_PAGES


def test_a_larger_model_computes_on_all_cores_with_threads_that_sleep(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(threads.SMALL_MODEL_BYTES)
    expected = {"OMP_NUM_THREADS": str(num_cores()), "OMP_WAIT_POLICY": "passive"}
    expected |= threads.KEPT_MEMORY
    assert compute_variables(tmp_path) == compute_variables(Path("owner/name")) == expected
    assert 1 <= num_cores() <= (psutil.cpu_count() or 1)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("150000 100000", 1), ("50000 100000", 1), ("200000 100000", 2), ("max", 3)],
)
def test_the_quota_of_a_control_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    assert num_cores() == cores
