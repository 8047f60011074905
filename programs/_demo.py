"""What the commands of the programs share: a server, and a task that the bundled model can do."""

from __future__ import annotations

import argparse
import ast
import operator
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from eager_sgl import EmbeddedRuntime

__all__ = ["Command", "command", "final_answer", "messages", "solves"]

MODEL = Path(__file__).parents[1] / "evals" / "reasoner" / "model"
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Command(NamedTuple):
    """The server of a command and its key, and the questions to answer."""

    url: str
    api_key: str | None
    questions: list[str]


@contextmanager
def command(page: str | None, *questions: str) -> Iterator[Command]:
    """Parse a command line; starts a server with the bundled model if `--server` is missing."""
    parser = argparse.ArgumentParser(description=(page or "").partition("\n")[0])
    parser.add_argument("questions", nargs="*", default=list(questions))
    parser.add_argument("--server", help="URL of an SGLang server (default: start one)")
    parser.add_argument("--api-key", help="of the server (default: EAGER_SGL_API_KEY)")
    given = parser.parse_args()
    if given.server is not None:
        yield Command(given.server, given.api_key, given.questions)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRuntime(MODEL, log_path=Path(folder) / "runtime.log") as runtime,
    ):
        yield Command(runtime.url, runtime.api_key, given.questions)


def messages(question: str) -> list[dict[str, str]]:
    """A question as the only message of a chat."""
    return [{"role": "user", "content": question}]


def final_answer(text: str) -> str | None:
    """The text after the reasoning; None without any."""
    return text.partition("</think>")[2].strip() or None


def solves(question: str, answer: str) -> bool:
    """Whether an expression solves a problem such as "make 02 from 03 08 03 18"."""
    target, *numbers = _numbers(question)
    try:
        value = _value(ast.parse(re.sub(r"\b0+(?=\d)", "", answer), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False
    return value == target and sorted(_numbers(answer)) == sorted(numbers)


def _numbers(text: str) -> Sequence[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        value: Fraction = OPERATORS[type(node.op)](_value(node.left), _value(node.right))
        return value
    raise ValueError(f"{ast.unparse(node)} is no expression of + - * /")
