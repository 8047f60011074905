"""docs/endpoint.md: its examples run, and it names every option, field and metric."""

from __future__ import annotations

import argparse

import pytest

from eager_sgl.server.plan import METHOD_NAMES
from eager_sgl.server.schema import EagerOptions
from eager_sgl.server.settings import parser
from eager_sgl.server.traffic.metrics import Metrics
from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.pages import blocks_of, page
from tests.server.upstream import MODEL, endpoint

PAGE = page("docs/endpoint.md")


@pytest.mark.parametrize("block", blocks_of("py"), ids=str)
def test_its_examples_run(block: object) -> None:
    text = getattr(block, "text", "")
    with endpoint(ScriptedServer(mixed_distribution(42))) as url:
        text = text.replace("http://localhost:8000", url).replace('"NAME', f'"{MODEL}')
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
