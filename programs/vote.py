"""Branch, take a majority vote, and continue from a winning sequence.

.venv/bin/python programs/vote.py "make 02 from 03 08 03 18"
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerConfig,
    EagerInit,
    Method,
    Prompt,
    PromptResult,
    Sequence,
    connect,
    continue_from,
    eager_generate,
    set_prompt,
)
from eager_sgl.callbacks import PlugIn
from eager_sgl.voting import vote_winner
from programs._demo import command, final_answer, messages

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


def main() -> None:
    with command(__doc__, "make 02 from 03 08 03 18") as (url, api_key, questions):
        endpoint = connect(url, api_key=api_key)
        method = EagerInit(EagerConfig(threshold=0.5, max_sequences=8))
        for question in questions:
            arguments = {"prompt": messages(question), "method": method, "extract": final_answer}
            print(f"{question}: {vote.run(**arguments, backend=endpoint)['answer']}")


if __name__ == "__main__":
    main()
