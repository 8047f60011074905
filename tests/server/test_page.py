"""docs/serving.md: its examples run, and it names every option, field and metric."""

from __future__ import annotations

import argparse
import re

import pytest

from eager_sgl.server.plan import METHOD_NAMES
from eager_sgl.server.schema import EagerOptions
from eager_sgl.server.settings import parser
from eager_sgl.server.traffic.metrics import Metrics
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.integration.clients.environment import VERSIONS
from tests.pages import Block, page
from tests.server.upstream import MODEL, endpoint

PAGE = page("docs/serving.md")


OPENAI = [
    block
    for block in PAGE.blocks
    if block.language == "python" and "from openai import" in block.text
]


@pytest.mark.parametrize("block", OPENAI, ids=str)
def test_its_examples_run_with_the_client_that_sglang_pins(block: Block) -> None:
    with endpoint(ScriptedServer(mixed_distribution(42))) as url:
        text = block.text.replace("http://localhost:8000", url).replace("Qwen/Qwen3-4B", MODEL)
        text = text.replace("n=16,", "n=16, max_tokens=9,").replace(
            '"threshold": 2.2', '"threshold": 1'
        )
        exec(compile(text, "page", "exec"), {})


def test_it_names_every_option_and_field() -> None:
    code = " ".join([*PAGE.inline, *PAGE.commands])
    actions: list[argparse.Action] = parser("p")._actions
    options = [action.option_strings[0] for action in actions if action.dest != "help"]
    fields = [field.alias or name for name, field in EagerOptions.model_fields.items()]
    assert not [name for name in (*options, *fields, *METHOD_NAMES) if name not in code]


def test_it_names_every_metric() -> None:
    lines = Metrics().text().decode().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    named = [name for name in names if not name.endswith("_created")]
    assert len(named) >= 7
    assert not [name for name in named if name not in PAGE.text]


def test_its_queries_name_metrics_with_their_labels() -> None:
    metrics = Metrics()
    tokens = {"generated": 1, "naive": 1}
    details = {"method": "vote", "sequences": 1, "branch_points": 0, "tokens": tokens}
    metrics.count({"usage": {}, "eager": details})
    text = metrics.text().decode()
    named = set(re.findall(r"(eager_\w+)\{kind=\"(\w+)\"", PAGE.text))
    assert {kind for _, kind in named} == {"generated", "naive"}
    for name, kind in named:
        assert f'{name}{{kind="{kind}",method="vote"}}' in text


def test_the_tested_versions_of_clients_are_those_that_tests_install() -> None:
    rows = [line.split(" | ") for line in PAGE.text.splitlines() if line.startswith("| ")]
    for name in ("openai", "langchain-openai", "dspy", "inspect-ai", "lm-eval"):
        (versions,) = [row[1] for row in rows if re.search(rf"`{name}\b", row[0])]
        assert VERSIONS[name].removesuffix(".0") in versions
