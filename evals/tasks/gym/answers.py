r"""How an answer is asked for, and found in a sequence: pure functions over texts.

The library's answers are texts of any form, several lines and JSON among them, so they are asked
for between `<answer>` and `</answer>`, in the words of the library's own system prompt. They are in
the user's message, since the templates of some reasoning models advise against a system message.
Instruct models often box the answer out of habit, inside the tags or without them: a box is read
too.
"""

from __future__ import annotations

import re

from evals.grading.boxed import last_boxed

__all__ = ["ask", "find_answer"]

INSTRUCTION = (
    "Think step by step, and then provide the answer in the following format:\n"
    "<answer>answer here</answer>\n"
    "Do not explain your reasoning inside the answer tags, provide only the final answer. When an "
    "example is provided, you should strictly follow the format of the output/answer in that "
    "example."
)

_TAGS = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_WRAPPED = re.compile(r"(\*\*|\$\$|\$|`)(?!\s)((?:(?!\1).)+)(?<!\s)\1", re.DOTALL)


def ask(question: str) -> str:
    """A question with the instruction on the form of the answer."""
    return f"{question.strip()}\n\n{INSTRUCTION}"


def find_answer(text: str) -> str | None:
    r"""The answer of a sequence: in the last tags, or in a box behind them; None without both.

    A closing tag may be missing at the end. A code fence, a box, Markdown or dollar signs around
    the whole answer are left out.

    Args:
        text: the text after the reasoning.
    """
    tagged, rest = _last_tagged(text)
    return last_boxed(rest).content or _unwrapped(tagged) or None


def _last_tagged(text: str) -> tuple[str, str]:
    """The content of the last tags that are not empty, and the text behind them.

    Without such tags the content is empty, and all of the text is behind it.
    """
    filled = [found for found in _TAGS.finditer(text) if found[1].strip()]
    return (filled[-1][1].strip(), text[filled[-1].end() :]) if filled else ("", text)


def _unwrapped(answer: str) -> str:
    while match := _FENCE.fullmatch(answer) or _WRAPPED.fullmatch(answer):
        answer = match[match.re.groups].strip()
    boxed = last_boxed(answer).content if re.match(r"\\{1,2}boxed\s*\{", answer) else None
    return boxed or answer
