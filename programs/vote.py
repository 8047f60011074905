"""An agent's step: branch, let the sequences vote, and go on from one that won."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    Method,
    PromptResult,
    Sequence,
    continue_from,
    eager_generate,
    set_prompt,
)
from eager_sgl.callbacks import PlugIn
from eager_sgl.engine.endpoint import Prompt

__all__ = ["Extract", "majority", "tried", "vote"]

Extract = Callable[[str], Hashable | None]
"""A sequence's text -> its answer, None if it gives none; equal answers vote together."""


@sgl.function  # type: ignore[untyped-decorator]
def vote(s: ProgramState, prompt: Prompt, method: Method, extract: Extract) -> PromptResult:
    """Answer a prompt by the majority of a method's sequences.

    Afterwards `s["answer"]` is the winning answer (None if no sequence gave one), and the state
    ends with a sequence that gave it, so that whatever is appended next continues from there.
    """
    extract = tried(extract)
    set_prompt(s, prompt)
    result = eager_generate(s, method)
    s["answer"], chosen = majority(result, extract)
    continue_from(s, chosen)
    return result


def tried(extract: Extract) -> Extract:
    """With a look at all that it returns.

    Raises:
        ValueError: it fails on a short text, or gives what cannot be counted.
    """
    plug_in = PlugIn("extract", extract, ("text",))
    with plug_in.blamed():
        plug_in.hashable("So the answer is \\boxed{1}.")
    return plug_in.hashable


def majority(result: PromptResult, extract: Extract) -> tuple[Hashable | None, Sequence]:
    """The most frequent answer and the first sequence that gave it; ties go to the earlier one."""
    answers = [extract(sequence.text) for sequence in result.sequences]
    votes = Counter(answer for answer in answers if answer is not None)
    winner = votes.most_common(1)[0][0] if votes else None
    return winner, result.sequences[answers.index(winner)]
