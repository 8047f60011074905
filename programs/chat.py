"""A chat with a tree in every turn: the answer of the majority is what the chat continues from.

.venv/bin/python programs/chat.py "make 12 from 07 05" "make 24 from 20 04"
"""

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerConfig,
    EagerInit,
    Method,
    PromptResult,
    SamplingConfig,
    TokenEndpoint,
    append_tokens,
    connect,
    continue_from,
    eager_generate,
    set_prompt,
)
from programs._demo import command, final_answer, messages
from programs.vote import Extract, majority

__all__ = ["chat", "next_turn"]


@sgl.function  # type: ignore[untyped-decorator]
def chat(
    s: ProgramState,
    server: TokenEndpoint,
    questions: list[str],
    method: Method,
    extract: Extract,
) -> list[PromptResult]:
    """Ask one question after the other; `s["answers"]` are those of the majorities.

    All tokens of earlier turns are cached, the reasoning included. (Messages of earlier turns, sent
    anew, would be cached up to the first reasoning, which most templates leave out.)
    """
    set_prompt(s, messages(questions[0]))
    results, answers = [], []
    for number, question in enumerate(questions):
        if number:
            append_tokens(s, next_turn(server, question))
        results.append(eager_generate(s, method))
        answer, chosen = majority(results[-1], extract)
        answers.append(answer)
        continue_from(s, chosen)
    s["answers"] = answers
    return results


def next_turn(server: TokenEndpoint, question: str) -> tuple[int, ...]:
    """The tokens between an answer and the next one, by the model's chat template.

    Two chats whose answers are different tokens differ there for the last time.
    """
    chats = [
        server.encode([*messages("1"), {"role": "assistant", "content": c}, *messages(question)])
        for c in "01"
    ]
    pairs = enumerate(zip(*chats, strict=True))
    return chats[0][max(number for number, (a, b) in pairs if a != b) + 1 :]


def main() -> None:
    with command(__doc__, "make 12 from 07 05", "make 24 from 20 04") as (url, api_key, questions):
        server = connect(url, api_key=api_key)
        sampling = SamplingConfig(max_new_tokens=256)
        method = EagerInit(EagerConfig(threshold=0.5, max_sequences=8, sampling=sampling))
        state = chat.run(server, questions, method, final_answer, backend=server)
        for question, answer in zip(questions, state["answers"], strict=True):
            print(f"{question}: {answer}")


if __name__ == "__main__":
    main()
