"""The out-of-tree platform is active only where SGLang has no better one."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from eager_sgl.embedded import cpu_platform

ACCELERATORS = ["cuda", "xpu", "mps", "npu", "hpu", "musa"]


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any accelerator, whatever the real one has."""
    monkeypatch.delenv("SGLANG_USE_CPU_ENGINE", raising=False)
    for name in ACCELERATORS:
        set_present(monkeypatch, name, present=False)


def set_present(monkeypatch: pytest.MonkeyPatch, name: str, *, present: bool) -> None:
    module = SimpleNamespace(is_available=lambda: present)
    monkeypatch.setattr(torch, name, module, raising=False)


def test_it_activates_on_a_bare_machine() -> None:
    assert cpu_platform.activate() == "eager_sgl.embedded.cpu_torch:CpuTorchPlatform"


def test_the_class_at_the_activated_path_is_sglangs_platform() -> None:
    from sglang.srt.platforms.interface import SRTPlatform

    from eager_sgl.embedded.cpu_torch import CpuTorchPlatform

    path = f"{CpuTorchPlatform.__module__}:{CpuTorchPlatform.__name__}"
    assert path == cpu_platform.activate()
    assert issubclass(CpuTorchPlatform, SRTPlatform)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_it_declines_where_an_accelerator_is_present(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    set_present(monkeypatch, name, present=True)
    assert cpu_platform.activate() is None


def test_it_declines_on_a_musa_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "musa", "4.2", raising=False)
    assert cpu_platform.activate() is None


def test_it_declines_when_the_user_requests_sglangs_cpu_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")
    assert cpu_platform.activate() is None


@pytest.mark.parametrize("module", ["cpu_platform", "runtime", "process"])
def test_importing_it_loads_neither_torch_nor_sglang(module: str) -> None:
    name = f"eager_sgl.embedded.{module}"
    code = f"import sys, {name}\nassert not {{'torch', 'sglang'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
