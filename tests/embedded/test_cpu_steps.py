"""The entry point that hooks SGLang's steps on a CPU, and nowhere else."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import entry_points
from types import ModuleType

import pytest

from eager_sgl.embedded import cpu_mixed, cpu_sampler, cpu_steps

SCHEDULER = "sglang.srt.managers.scheduler"


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are hooked, in a process of SGLang that runs requests without a GPU."""
    with warnings.catch_warnings(action="ignore"):  # of quantisation for other devices
        from sglang.srt.plugins.hook_registry import HookRegistry

    targets: list[str] = []
    monkeypatch.setattr(HookRegistry, "register", lambda target, hook, kind: targets.append(target))
    monkeypatch.setattr(cpu_steps, "activate", lambda: "a platform")
    monkeypatch.setitem(sys.modules, SCHEDULER, ModuleType(SCHEDULER))
    return targets


def test_sglang_finds_it_by_its_name() -> None:
    (found,) = entry_points(group="sglang.srt.plugins", name="eager_sgl_cpu_steps")
    assert found.load() is cpu_steps.register


def test_the_hooks_of_sampling_and_of_mixed_steps_are_set(hooked: list[str]) -> None:
    cpu_steps.register()
    assert hooked == [target for target, *_ in (*cpu_sampler.HOOKS, *cpu_mixed.HOOKS)]
    assert any("Sampler" in target for target in hooked)
    assert any("compute_position" in target for target in hooked)


def test_none_is_set_where_another_platform_computes(
    hooked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_steps, "activate", lambda: None)
    cpu_steps.register()
    assert not hooked


def test_none_is_set_in_a_process_that_runs_no_requests(
    hooked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, SCHEDULER)
    cpu_steps.register()
    assert not hooked


def test_none_is_set_in_another_version_of_sglang(
    hooked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sglang

    monkeypatch.setattr(sglang, "__version__", "0.5.24")
    cpu_steps.register()
    assert not hooked
