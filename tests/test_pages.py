"""What the pages name exists: links, commands, options, files, names and fields."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

import eager_sgl
from eager_sgl import (
    AsyncClient,
    Client,
    EagerConfig,
    MapItem,
    SamplingConfig,
    Search,
    SearchConfig,
    methods,
)
from eager_sgl.core import BranchPoint, FinishReason, PromptResult, Sequence, Stopped, TokenCounts
from eager_sgl.generate import events
from eager_sgl.search.priorities import PRIORITIES
from evals.config.bidding import BIDS
from evals.config.presets import PRESETS
from evals.config.stopping import STOPS
from evals.execution.methods import METHODS
from evals.laboratory.syntax import PARTS
from evals.tasks import TASKS
from tests.pages import PAGES, ROOT, page

MAX_README_LINES = 150
CHANGES = ("Added", "Changed", "Deprecated", "Fixed", "Removed", "Security")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
SCRIPT = re.compile(r"python (?:(evals/[\w/]+\.py)|-m ((?:eager_sgl|evals|tests)[\w.]*))")
PROJECT: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTALL = re.compile(r"pip install (?:-\w+ )*'?((?:\.|eager[_-]sgl)(?:\[\w+\])?)")
RULES: dict[str, str] = dict(
    re.findall(
        r"^([a-z-]+): [^\n]*\n((?:\t[^\n]*\n)+)",
        (ROOT / "Makefile").read_text().replace("\\\n", " "),
        re.MULTILINE,
    )
)
"""The commands of the targets of make."""
# Where the options of a command are declared, beside its own file.
OPTIONS_IN = {
    "eager_sgl/server/__main__.py": "eager_sgl/server",
    "evals/run.py": "evals/config",
    "evals/calibrate.py": "evals/config",
    "evals/compare.py": "evals/comparison",
    "evals/replay.py": "evals/laboratory",
    "evals/bench.py": "evals/throughput",
    "evals/proof/__main__.py": "evals/config",
}
# Of SGLang 0.5.23, its router, and the hub's client.
FOREIGN = {
    "--allow-auto-truncate",
    "--attn-dp-size",
    "--balance-abs-threshold",
    "--balance-rel-threshold",
    "--cache-threshold",
    "--context-length",
    "--disable-radix-cache",
    "--is-embedding",
    "--dp-aware",
    "--dp-size",
    "--enable-cache-report",
    "--enable-custom-logit-processor",
    "--enable-deterministic-inference",
    "--incremental-streaming-output",
    "--load-balance-method",
    "--model-path",
    "--model-type",
    "--policy",
    "--port",
    "--reasoning-parser",
    "--tool-call-parser",
    "--tp-size",
    "--worker-urls",
    "--local-dir",
    "--repo-type",
    "--revision",
}


def test_the_readme_is_short() -> None:
    assert len(page("README.md").text.splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: str) -> None:
    for link in page(path).links:
        target, _, anchor = link.partition("#")
        where = (ROOT / path).parent / target if target else ROOT / path
        assert where.exists(), f"{path} links to {link}"
        if anchor:
            known = page(str(where.resolve().relative_to(ROOT))).anchors
            assert anchor in known, f"{path} links to {link}; there is {sorted(known)}"


@pytest.mark.parametrize("path", PAGES)
def test_a_list_of_contents_has_every_section(path: str) -> None:
    head, *sections = page(path).prose.split("\n## ")
    listed = re.findall(r"^- \[(.+?)\]\(#", head, re.MULTILINE)
    assert listed in ([], [section.partition("\n")[0] for section in sections])


@pytest.mark.parametrize("path", PAGES)
def test_options_are_those_of_their_command(path: str) -> None:
    everywhere = set().union(*map(options_of, known_scripts())) | FOREIGN
    for line in page(path).commands:
        script = script_of(line)
        known = everywhere if script is None else options_of(script)
        if "--model" in line:  # further options are those of the SGLang server
            known |= FOREIGN
        for option in OPTION.findall(line):
            assert option in known, f"{path}: {option} is no option of {script or 'anything'}"


def script_of(line: str) -> str | None:
    """The script that a command runs, if it is one of ours."""
    if made := re.match(r"\s*make ([a-z-]+)(?: [A-Z]+=\S+)* ARGS=", line):
        return script_of_target(made[1])
    match = SCRIPT.search(line)
    if match is None:
        return None
    if match[1]:
        return match[1]
    path = Path(*match[2].split("."))
    return str(path / "__main__.py" if (ROOT / path).is_dir() else path.with_suffix(".py"))


def script_of_target(target: str) -> str | None:
    """The script that make passes ARGS on to, if it is one of ours."""
    commands = RULES[target].splitlines()
    (taking,) = (command for command in commands if "$(ARGS)" in command)
    return script_of(taking)


def known_scripts() -> list[str]:
    targets = (target for target, commands in RULES.items() if "$(ARGS)" in commands)
    made = [script for script in map(script_of_target, targets) if script]
    return [*made, "evals/calibrate.py", "evals/compare.py", "evals/replay.py"]


@cache
def options_of(script: str) -> frozenset[str]:
    """The options that a script's source gives its parser."""
    files = [ROOT / script, *(ROOT / OPTIONS_IN.get(script, "none")).glob("*.py")]
    return frozenset({"--help"}.union(*map(_declared, files)))


def _declared(path: Path) -> set[str]:
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    arguments = (argument for call in calls for argument in call.args[:1])
    values = [str(node.value) for node in arguments if isinstance(node, ast.Constant)]
    return {value for value in values if OPTION.fullmatch(value)}


def test_every_option_of_a_run_is_documented() -> None:
    named = set(OPTION.findall("".join(page(path).text for path in PAGES)))
    assert options_of("evals/run.py") <= named


@pytest.mark.parametrize("kind", [EagerConfig, SearchConfig])
def test_fields_have_options_of_their_names(kind: Any) -> None:
    """But for those that docs/evaluation.md excepts."""
    names = {field.name for field in fields(kind)} - {"threshold", "deferred_threshold", "sampling"}
    assert {f"--{name.replace('_', '-')}" for name in names} <= options_of("evals/run.py")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("docs/evaluation.md", METHODS),
        ("docs/models.md", [*PRESETS, *(name for name in TASKS if "countdown" not in name)]),
        ("docs/search.md", [*PRIORITIES, *STOPS, *BIDS]),
        ("docs/laboratory.md", PARTS),
    ],
)
def test_every_name_of_a_choice_is_documented(path: str, names: Iterable[str]) -> None:
    code = " ".join(page(path).inline)
    assert not [name for name in names if not re.search(rf"\b{name}\b", code)]


def test_every_target_of_make_that_is_named_exists() -> None:
    for path in PAGES:
        for line in page(path).commands:
            if made := re.match(r"\s*make ([a-z-]+)", line):
                assert made[1] in RULES, f"{path} names make {made[1]}"


def test_the_package_is_installed_from_its_folder() -> None:
    """No index has it. Extras that are named exist."""
    sources = (path for name in ("eager_sgl", "evals") for path in (ROOT / name).rglob("*.py"))
    texts = [page(path).text for path in PAGES] + [path.read_text() for path in sources]
    installed = set().union(*(INSTALL.findall(text) for text in texts))
    extras = PROJECT["project"]["optional-dependencies"]
    assert installed == {".", *(f".[{extra}]" for extra in extras)}


@pytest.mark.parametrize("path", PAGES)
def test_files_and_modules_that_are_named_exist(path: str) -> None:
    for code in page(path).inline:
        if re.fullmatch(r"(eager_sgl|evals|programs|tests|docs)(/[\w.-]+)+/?", code):
            assert (ROOT / code).exists(), f"{path} names {code}"
        if re.fullmatch(r"(eager_sgl|evals|programs)(\.\w+)+", code):
            assert _resolves(code), f"{path} names {code}"


def _resolves(name: str) -> bool:
    """Whether a dotted name is a module, or what one holds."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True


def test_every_folder_has_a_line() -> None:
    """Of the library at any depth, of the evaluation those right in `evals`."""
    found = [*(ROOT / "eager_sgl").rglob("__init__.py"), *(ROOT / "evals").glob("*/__init__.py")]
    text = page("docs/architecture.md").text
    listed = set(re.findall(r"^\| \[([\w/]+)/\]\(", text, re.MULTILINE))
    assert {str(path.parent.relative_to(ROOT)) for path in found} <= listed


def test_every_layer_of_the_library_is_named() -> None:
    (library,) = (
        contract
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["eager_sgl"]
    )
    layers = set(re.findall(r"\w+", " ".join(library["layers"])))
    text = page("docs/architecture.md").text
    assert {name for name in layers if f"`{name}`" not in text} <= set(
        re.findall(r"\[eager_sgl/(\w+)/\]", text)
    )


def test_every_public_name_is_documented() -> None:
    text = page("docs/programs.md").text
    missing = [name for name in eager_sgl.__all__ if not re.search(rf"`{name}\b", text)]
    assert not missing


def test_documented_signatures_are_the_real_ones() -> None:
    for code in page("docs/programs.md").inline:
        call = re.fullmatch(r"(\w+)\(([^…]+)\)", code)
        if call and call[1] in eager_sgl.__all__:
            documented = [name.split("=")[0] for name in call[2].split(", ") if name != "*"]
            member = getattr(eager_sgl, call[1])
            assert documented == list(inspect.signature(getattr(member, "func", member)).parameters)


def test_searches_are_the_methods_that_take_a_bidder() -> None:
    """As docs/programs.md says."""
    kinds = {kind for kind in vars(methods).values() if inspect.isclass(kind)}
    bidding = {kind for kind in kinds if "bidder" in inspect.signature(kind).parameters}
    assert bidding == {kind for kind in kinds if issubclass(kind, Search)}


@pytest.mark.parametrize(
    "kind",
    [
        EagerConfig,
        SamplingConfig,
        SearchConfig,
        PromptResult,
        Sequence,
        TokenCounts,
        BranchPoint,
        MapItem,
    ],
)
def test_every_field_of_a_public_class_is_documented(kind: Any) -> None:
    text = page("docs/programs.md").text
    missing = [field.name for field in fields(kind) if f"`{field.name}`" not in text]
    assert not missing


@pytest.mark.parametrize("client", [AsyncClient, Client])
def test_the_methods_of_clients_are_documented_with_their_arguments(client: type) -> None:
    """All but those that a context manager calls."""
    code = page("docs/programs.md").inline
    for name, member in inspect.getmembers(client, inspect.isroutine):
        if name.startswith("_") or name in {"close", "aclose", "replicas"}:
            continue
        parameters = list(inspect.signature(member).parameters.values())[1:]
        given = [parameter.name for parameter in parameters]
        options = [p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters]
        if any(options):
            given.insert(options.index(True), "*")
        assert f"{name}({', '.join(given)})" in code


@pytest.mark.parametrize("name", [name for name in events.__all__ if name != "Event"])
def test_every_event_is_documented_with_its_fields(name: str) -> None:
    (row,) = (
        line for line in page("docs/programs.md").text.splitlines() if f"| `{name}` |" in line
    )
    named = re.findall(r"`(\w+)`", row)
    assert not [field.name for field in fields(getattr(events, name)) if field.name not in named]


@pytest.mark.parametrize("value", [*get_args(FinishReason), *get_args(Stopped)])
def test_every_reason_of_an_end_is_documented(value: str) -> None:
    assert f'"{value}"' in page("docs/programs.md").inline


def test_the_changelog_keeps_its_form() -> None:
    for heading in re.findall(r"^(#+) (.+)$", page("CHANGELOG.md").text, re.MULTILINE)[1:]:
        form = r"\[[\w.]+\]( - .+)?" if heading[0] == "##" else "|".join(CHANGES)
        assert re.fullmatch(form, heading[1]), heading


def test_the_workflow_runs_what_must_pass_before_a_change_lands() -> None:
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_no_test_cites_a_page_that_is_not_there() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for cited in re.findall(r"\b(?:docs|evals|shared)/[\w/]+\.md\b", path.read_text()):
            assert (ROOT / cited).exists(), f"{path} cites {cited}"
