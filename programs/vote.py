"""An agent's step: branch, take a majority vote, and continue from a winning sequence."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    Method,
    Prompt,
    PromptResult,
    Sequence,
    continue_from,
    eager_generate,
    set_prompt,
)
from eager_sgl.callbacks import PlugIn
from eager_sgl.search import vote_winner

__all__ = ["Extract", "majority", "tried", "vote"]

Extract = Callable[[str], Hashable | None]
"""The text of a sequence -> its answer, or None; equal answers vote together."""


@sgl.function  # type: ignore[untyped-decorator]
def vote(s: ProgramState, prompt: Prompt, method: Method, extract: Extract) -> PromptResult:
    """Answer a prompt by the majority of a method's sequences.

    Afterwards `s["answer"]` is the winning answer, None without any, and the state ends with a
    sequence that gave it, so that the program continues from there.
    """
    extract = tried(extract)
    set_prompt(s, prompt)
    result = eager_generate(s, method)
    s["answer"], chosen = majority(result, extract)
    continue_from(s, chosen)
    return result


def tried(extract: Extract) -> Extract:
    """An extractor whose values are checked, after a first call.

    Raises:
        ValueError: it fails on a short text, or returns a value that is not hashable.
    """
    plug_in = PlugIn("extract", extract, ("text",))
    with plug_in.blamed():
        plug_in.hashable("So the answer is \\boxed{1}.")
    return plug_in.hashable


def majority(result: PromptResult, extract: Extract) -> tuple[Hashable | None, Sequence]:
    """The most frequent answer and its first sequence; ties go to the earlier answer."""
    answers = [extract(sequence.text) for sequence in result.sequences]
    winner = vote_winner(answers)
    return winner, result.sequences[answers.index(winner)]
