"""The program in a model's answer. Pure functions over text; nothing is executed."""

from __future__ import annotations

import ast
import re
import textwrap

from evals.grading.programs.blocks import FILE, Block, blocks, ended, parsed, unescaped, unmarked
from evals.grading.programs.names import all_names, definition, missing, names, without_usage

__all__ = ["extract"]

MAX_CHARACTERS = 200_000
CODE = re.compile(r"(?:from|import|def|async|class|@)\b|@|\w+ *(?::[^=]*)?= ")
MAX_STARTS, MAX_CUTS, MAX_SOURCES = 20, 20, 5
INDENTATION = "    "


def extract(text: str, entry_point: str, prompt: str = "") -> str | None:
    """The source of the program that a text proposes; None where there is none.

    In this order: the last complete fenced block that defines the entry point, behind what it
    needs of earlier ones; the last unfinished one that does; the text itself, or lines of a block
    or of it, if they are such a program; the last block, completed by the prompt if it is only
    the body of the function; the text itself if it is such a body. A statement that only imports
    the entry point, reads it or does nothing gives way to any definition. Statements that follow
    the definition and try it are left out, and so are marks that end the model's turn.

    Args:
        text: an answer, its reasoning already removed.
        entry_point: the name of the function asked for.
        prompt: the source that the answer completes: signature and docstring.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    whole = unescaped(text)
    first = ended(whole)
    for version in dict.fromkeys((first, whole)):
        if program := _defining(version, entry_point, prompt):
            return without_usage(program, entry_point)
    sources = _sources(list(blocks(first)))
    if (body := _body_of(sources, first, entry_point, prompt)) is not None:
        return without_usage(body, entry_point)
    return sources[0] if sources else None


def _sources(found: list[Block]) -> list[str]:
    """The last first, and unfinished ones behind complete ones."""
    ordered = sorted(found, key=lambda block: block.is_complete)
    return [block.source for block in reversed(ordered) if block.source.strip()]


def _defining(text: str, entry_point: str, prompt: str) -> str | None:
    """The source that defines the entry point; one that only names it where none does."""
    found = list(blocks(text))
    sources = [*_sources(found), unmarked(text)]
    named = [source for source in sources if _gives(source, entry_point)]
    for source in named:
        if _defines(source, entry_point):
            return _completed(source, found, prompt)
    for source in sources[:MAX_SOURCES]:
        if parsed(source) is None and (lines := _within(source, entry_point)):
            return _completed(lines, found, prompt)
    return _completed(named[0], found, prompt) if named else None


def _within(text: str, entry_point: str) -> str | None:
    """The lines of a text that are a program: prose around them is left out."""
    lines = re.split(r"\r?\n", text)
    starts = [number for number, line in enumerate(lines) if CODE.match(line)]
    for start in starts[:MAX_STARTS]:
        source = _cut(lines[start:])
        if source is not None:
            return source.rstrip() if _gives(source, entry_point) else None
    return None


def _cut(lines: list[str], num_kept: int = 1) -> str | None:
    """The lines up to where they are no program; None if that is inside, or keeps too few."""
    end = len(lines)
    for _ in range(MAX_CUTS):
        source = "\n".join(lines[:end])
        try:
            ast.parse(source, FILE)
        except SyntaxError as error:  # what stands behind the code is no code
            place = max((error.lineno or 1) - 1, 0)
            # Inside of a function it is.
            if not num_kept <= place < end or lines[place][:1] in (" ", "\t"):
                return None
            end = place
        except (ValueError, RecursionError, MemoryError):
            return None
        else:
            return source
    return None


def _completed(source: str, found: list[Block], prompt: str) -> str:
    """The source behind the imports and helpers of earlier blocks that it lacks."""
    tree = parsed(source)
    if tree is None or "__future__" in source:
        return source
    taken, known = list[ast.stmt](), _known(prompt)
    lacking = missing(tree.body) - known
    for other in reversed(found):
        earlier = parsed(other.source) if other.is_complete and other.source != source else None
        for node in reversed(earlier.body if earlier else []):
            if given := names(node) & lacking:
                taken.insert(0, node)
                lacking = (lacking - given) | (missing([node]) - known - all_names(taken))
    head = "\n".join(map(ast.unparse, taken))
    return f"{head}\n\n\n{source}" if head else source


def _known(prompt: str) -> set[str]:
    """What the prompt defines; it may end within a statement."""
    tree = parsed(prompt) or parsed(f"{prompt.rstrip()}\n    pass\n")
    return set() if tree is None else all_names(tree.body)


def _gives(source: str, entry_point: str) -> bool:
    """Whether it parses and gives the name a value at its top level."""
    tree = parsed(source)
    return tree is not None and entry_point in all_names(tree.body)


def _defines(source: str, entry_point: str) -> bool:
    """Whether it parses and says what the function does."""
    tree = parsed(source)
    return tree is not None and definition(tree.body, entry_point) is not None


def _body_of(sources: list[str], text: str, entry_point: str, prompt: str) -> str | None:
    """The prompt completed by a body: the last block's, or what stands before any block."""
    before = re.split(r"(?m)^[ \t]*(?:```|~~~)", unmarked(text), maxsplit=1)[0].lstrip("\r\n")
    bodies = [_body(source, prompt) for source in (*sources[:MAX_SOURCES], before)]
    for body in bodies:
        if body is not None and _returns(body, entry_point):
            return body
    if sources:
        return bodies[0]
    return bodies[-1] if before[:1] in (" ", "\t") else None


def _body(source: str, prompt: str) -> str | None:
    """The prompt completed by a body, indented or not, or all of it but its first line."""
    if not prompt or not source.strip():
        return None
    head = prompt.rstrip().split("\n")
    whole = textwrap.indent(textwrap.dedent(source), INDENTATION)
    forms = [source, whole] if source[:1] in " \t" else [whole, INDENTATION + source]
    found = (_cut([*head, *re.split(r"\r?\n", form), ""], len(head) + 1) for form in forms)
    return next((body for body in found if body is not None), None)


def _returns(source: str, entry_point: str) -> bool:
    tree = parsed(source)
    found = [node for node in tree.body if entry_point in names(node)] if tree else []
    functions = [node for node in found if isinstance(node, ast.FunctionDef)]
    return any(map(_has_return, functions[-1].body)) if functions else False


def _has_return(node: ast.AST) -> bool:
    """Whether it holds one of its own, not in a function within it."""
    if isinstance(node, ast.Return | ast.Yield):
        return True
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return False
    return any(map(_has_return, ast.iter_child_nodes(node)))
