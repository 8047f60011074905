"""The engine's modules import no frontend, and those of commands nothing heavy."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("addresses", {"sglang", "torch", "aiohttp", "numpy", "asyncio"}),
        ("limits", {"sglang", "torch", "aiohttp", "numpy", "asyncio"}),
        ("gate", {"sglang", "torch"}),
        ("client", {"sglang", "torch"}),
    ],
)
def test_importing_it_loads_nothing_heavy(module: str, heavy: set[str]) -> None:
    name = f"eager_sgl.engine.{module}"
    code = f"import sys, eager_sgl\nbefore = set(sys.modules)\nimport {name}\n"
    code += f"assert not {heavy!r} & (set(sys.modules) - before), set(sys.modules) - before"
    subprocess.run([sys.executable, "-c", code], check=True)
