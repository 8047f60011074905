"""The program in a model's answer. Pure functions over text; executes nothing."""

from __future__ import annotations

import ast
import re
import textwrap

from evals.grading.programs.blocks import (
    FILE,
    Block,
    blocks,
    parsed,
    unescaped,
    unmarked,
    until_end,
)
from evals.grading.programs.names import all_names, definition, missing, names, without_usage

__all__ = ["extract"]

MAX_CHARACTERS = 200_000
CODE = re.compile(r"(?:from|import|def|async|class|@)\b|@|\w+ *(?::[^=]*)?= ")
MAX_STARTS, MAX_CUTS, MAX_SOURCES = 20, 20, 5
INDENTATION = "    "


def extract(text: str, entry_point: str, prompt: str = "") -> str | None:
    """The source of the program that a text proposes; None without a program.

    In this order: the last complete fenced block that defines the entry point, with the statements
    of earlier blocks that it needs; the last unfinished block that defines it; the text itself, or
    lines of a block or of the text, if they are such a program; the last block, completed by the
    prompt if it is only the body of the function; the text itself if it is such a body. Any
    definition is preferred to a statement that only imports the entry point, reads it or does
    nothing. Statements after the definition that try it are dropped, and so are markers of the end
    of the turn.

    Args:
        text: an answer without its reasoning.
        entry_point: the name of the function asked for.
        prompt: the source that the answer completes: signature and docstring.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    whole = unescaped(text)
    first = until_end(whole)
    for version in dict.fromkeys((first, whole)):
        if program := _defining(version, entry_point, prompt):
            return without_usage(program, entry_point)
    sources = _sources(list(blocks(first)))
    if (body := _body_of(sources, first, entry_point, prompt)) is not None:
        return without_usage(body, entry_point)
    return sources[0] if sources else None


def _sources(fenced: list[Block]) -> list[str]:
    """Sources of blocks, the last first, complete blocks before unfinished blocks."""
    ordered = sorted(fenced, key=lambda block: block.is_complete)
    return [block.source for block in reversed(ordered) if block.source.strip()]


def _defining(text: str, entry_point: str, prompt: str) -> str | None:
    """The source that defines the entry point; without it a source that only binds the name."""
    fenced = list(blocks(text))
    sources = [*_sources(fenced), unmarked(text)]
    binding = [source for source in sources if _binds(source, entry_point)]
    for source in binding:
        if _defines(source, entry_point):
            return _completed(source, fenced, prompt)
    for source in sources[:MAX_SOURCES]:
        if parsed(source) is None and (lines := _within(source, entry_point)):
            return _completed(lines, fenced, prompt)
    return _completed(binding[0], fenced, prompt) if binding else None


def _within(text: str, entry_point: str) -> str | None:
    """The lines of a text that are a program, without the prose around them."""
    lines = re.split(r"\r?\n", text)
    starts = [number for number, line in enumerate(lines) if CODE.match(line)]
    for start in starts[:MAX_STARTS]:
        source = _cut(lines[start:])
        if source is not None:
            return source.rstrip() if _binds(source, entry_point) else None
    return None


def _cut(lines: list[str], num_kept: int = 1) -> str | None:
    """The lines up to the first error; None for an error within a function, or too few lines."""
    end = len(lines)
    for _ in range(MAX_CUTS):
        source = "\n".join(lines[:end])
        try:
            ast.parse(source, FILE)
        except SyntaxError as error:  # the text after the code is not code
            index = max((error.lineno or 1) - 1, 0)
            if not num_kept <= index < end or lines[index][:1] in (" ", "\t"):  # in a function
                return None
            end = index
        except (ValueError, RecursionError, MemoryError):
            return None
        else:
            return source
    return None


def _completed(source: str, fenced: list[Block], prompt: str) -> str:
    """The source after the imports and helpers of other blocks that it lacks."""
    tree = parsed(source)
    if tree is None or "__future__" in source:
        return source
    taken, known = list[ast.stmt](), _known(prompt)
    lacking = missing(tree.body) - known
    for block in reversed(fenced):
        other = parsed(block.source) if block.is_complete and block.source != source else None
        for node in reversed(other.body if other else []):
            if bound := names(node) & lacking:
                taken.insert(0, node)
                lacking = (lacking - bound) | (missing([node]) - known - all_names(taken))
    head = "\n".join(map(ast.unparse, taken))
    return f"{head}\n\n\n{source}" if head else source


def _known(prompt: str) -> set[str]:
    """Names that the prompt binds; it may end within a statement."""
    tree = parsed(prompt) or parsed(f"{prompt.rstrip()}\n    pass\n")
    return set() if tree is None else all_names(tree.body)


def _binds(source: str, entry_point: str) -> bool:
    """Whether it parses and binds the name at its top level."""
    tree = parsed(source)
    return tree is not None and entry_point in all_names(tree.body)


def _defines(source: str, entry_point: str) -> bool:
    """Whether it parses and defines what the function does."""
    tree = parsed(source)
    return tree is not None and definition(tree.body, entry_point) is not None


def _body_of(sources: list[str], text: str, entry_point: str, prompt: str) -> str | None:
    """The prompt completed by a body: that of the last block, or the text before any block."""
    before = re.split(r"(?m)^[ \t]*(?:```|~~~)", unmarked(text), maxsplit=1)[0].lstrip("\r\n")
    bodies = [_body(source, prompt) for source in (*sources[:MAX_SOURCES], before)]
    for body in bodies:
        if body is not None and _returns(body, entry_point):
            return body
    if sources:
        return bodies[0]
    return bodies[-1] if before[:1] in (" ", "\t") else None


def _body(source: str, prompt: str) -> str | None:
    """The prompt completed by a body, whose lines, or first line, may lack indentation."""
    if not prompt or not source.strip():
        return None
    head = prompt.rstrip().split("\n")
    whole = textwrap.indent(textwrap.dedent(source), INDENTATION)
    forms = [source, whole] if source[:1] in " \t" else [whole, INDENTATION + source]
    bodies = (_cut([*head, *re.split(r"\r?\n", form), ""], len(head) + 1) for form in forms)
    return next((body for body in bodies if body is not None), None)


def _returns(source: str, entry_point: str) -> bool:
    tree = parsed(source)
    nodes = [node for node in tree.body if entry_point in names(node)] if tree else []
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return any(map(_has_return, functions[-1].body)) if functions else False


def _has_return(node: ast.AST) -> bool:
    """Whether it returns or yields, not counting functions within it."""
    if isinstance(node, ast.Return | ast.Yield):
        return True
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return False
    return any(map(_has_return, ast.iter_child_nodes(node)))
