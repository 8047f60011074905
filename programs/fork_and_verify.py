"""Fork a state into a method's sequences, answer in every fork, and try again until one is right.

.venv/bin/python programs/fork_and_verify.py "make 02 from 03 08 03 18"
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerConfig,
    EagerInit,
    Method,
    Prompt,
    SamplingConfig,
    connect,
    continue_from,
    fork,
    set_prompt,
)
from programs._demo import command, messages, solves

__all__ = ["fork_and_verify"]

CLOSING = "</think>"


@sgl.function  # type: ignore[untyped-decorator]
def fork_and_verify(
    s: ProgramState,
    prompt: Prompt,
    method: Method,
    verify: Callable[[str], bool],
    max_tries: int = 8,
) -> str | None:
    """Branch in the reasoning, and answer once per sequence.

    The state ends with the first answer that is right, and the sequence that leads to it.

    Args:
        method: its sequences end where the reasoning closes, by `stop_token_ids`.
        verify: whether an answer is right.

    Returns:
        The answer; None if no sequence of any try has a right one.
    """
    set_prompt(s, prompt)
    for _ in range(max_tries):
        states = fork(s, method)
        states += CLOSING + sgl.gen("answer", max_tokens=256, temperature=0)
        answers: list[str] = [state["answer"] for state in states]
        states.join()
        for answer, sequence in zip(answers, states.result.sequences, strict=True):
            if verify(answer):
                continue_from(s, sequence)
                s += CLOSING + answer
                return answer
    return None


def main() -> None:
    with command(__doc__, "make 02 from 03 08 03 18") as (url, api_key, questions):
        endpoint = connect(url, api_key=api_key)
        sampling = SamplingConfig(max_new_tokens=256, stop_token_ids=endpoint.encode(CLOSING)[-1:])
        method = EagerInit(EagerConfig(threshold=0.5, max_sequences=8, sampling=sampling))
        for question in questions:
            verify = partial(solves, question)
            state = fork_and_verify.run(messages(question), method, verify, backend=endpoint)
            print(f"{question}: {state.ret_value or 'no answer found'}")


if __name__ == "__main__":
    main()
