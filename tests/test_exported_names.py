"""The public names of the package and of its modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eager_sgl

ROOT = Path(eager_sgl.__path__[0])
PATHS = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("name", eager_sgl.__all__)
def test_a_public_name_is_an_attribute_of_the_package(name: str) -> None:
    assert getattr(eager_sgl, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = eager_sgl.no_such_name


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_defines_the_names_of_its_all(path: Path) -> None:
    """Read, not imported: some need SGLang or torch."""
    body = ast.parse(path.read_text()).body
    defined = {name for node in body for name in names_of(node)}
    assert all(name in defined for name in exported_by(body))


def names_of(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.If | ast.Try):
        return [name for inner in node.body for name in names_of(inner)]
    return [name_node.id for name_node in ast.walk(node) if isinstance(name_node, ast.Name)]


def exported_by(body: list[ast.stmt]) -> list[str]:
    for node in body:
        if isinstance(node, ast.Assign) and "__all__" in names_of(node):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def test_no_public_name_is_that_of_a_module_or_folder() -> None:
    """Importing a module sets an attribute of the package, which replaces an equal name."""
    names = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in PATHS}
    assert not names & set(eager_sgl.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'sglang', 'torch', 'transformers'}"
    code = f"import sys, eager_sgl; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_evals_and_programs_use_the_public_names() -> None:
    paths = [p for name in ("evals", "programs") for p in (ROOT.parent / name).rglob("*.py")]
    imports = (
        (path, node.module, alias.name)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eager_sgl.")
        for alias in node.names
    )
    assert [entry for entry in imports if entry[2] in eager_sgl.__all__] == []
