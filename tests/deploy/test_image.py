"""The endpoint runs with the packages of its image alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import httpx
import pytest
from packaging.requirements import Requirement

from tests.deploy.files import instructions
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.server.upstream import MODEL, address_of, listening, upstream

RUN = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"{{name}} is not on the image")

sys.meta_path.insert(0, Missing())
from eager_sgl.server.__main__ import main
sys.exit(main(["--server", {url!r}, "--port", "0"]))
"""


def installed_with(names: set[str]) -> set[str]:
    """These distributions and all that they require, by lower-case name with hyphens."""
    known: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        try:
            lines = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting += [
            normal(line.name)
            for line in lines
            if line.marker is None or line.marker.evaluate({"extra": ""})
        ]
    return known


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The endpoint, in a process that can import only what the image has."""
    missing = not_on_the_image()
    assert {"sglang", "torch", "transformers"} <= missing
    with listening(upstream(ScriptedServer(mixed_distribution(42)))) as server:
        code = RUN.format(missing=missing, url=server)
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        try:
            yield address_of(process)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def not_on_the_image() -> set[str]:
    """The packages of this environment that the image does not have."""
    words = [word for words in instructions("endpoint", "RUN")[:1] for word in words[2:]]
    there = installed_with({normal(Requirement(w).name) for w in words if w[0] not in "-/"})
    return {
        package
        for package, distributions in packages_distributions().items()
        if not {normal(name) for name in distributions} & (there | {"eager-sgl"})
    }


@pytest.mark.parametrize("method", ["vote", "best_first", "parallel"])
def test_it_answers(method: str, url: str) -> None:
    body = {
        "model": f"{MODEL}:{method}",
        "messages": [{"role": "user", "content": "a"}],
        "eager": {"max_sequences": 4},
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["eager"]["method"] == method
