"""An agent that branches before every tool call, and votes on the call.

.venv/bin/python programs/tools.py "make 02 from 03 08 03 18"
"""

import re
from collections import Counter
from collections.abc import Callable

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerConfig,
    EagerInit,
    Method,
    Prompt,
    PromptResult,
    SamplingConfig,
    connect,
    continue_from,
    eager_generate,
    set_prompt,
)
from programs._demo import command, messages

Parse = Callable[[str], tuple[str, ...]]


@sgl.function  # type: ignore[untyped-decorator]
def agent(
    s: ProgramState, prompt: Prompt, method: Method, parse: Parse, tool: Callable[..., str]
) -> list[PromptResult]:
    """Generate up to a call, execute the call of the majority, continue with its result.

    Args:
        method: its sequences end with a call, by `stop_token_ids`; that token is not kept.
        parse: all text since the prompt -> the call at its end; () without one, which is a vote.
        tool: the parts of a call -> the text to continue with, as the model expects a result.
    """
    set_prompt(s, prompt)
    steps = []
    for _ in range(32):
        steps.append(eager_generate(s, method))
        sequences = steps[-1].sequences
        calls = [parse(s.text() + sequence.text) for sequence in sequences]
        call, _ = Counter(calls).most_common(1)[0]
        continue_from(s, sequences[calls.index(call)])
        if not call:
            break
        s += tool(*call)
    return steps


def parse_operation(text: str) -> tuple[str, ...]:
    found = re.search(r"(\d+)([-+*/~])(\d+)=$", text)
    return found.groups() if found else ()


def calculate(first: str, sign: str, second: str) -> str:
    a, b = int(first), int(second)
    values = {"+": a + b, "-": a - b, "*": a * b, "/": a // max(b, 1), "~": abs(a - b)}
    return f"={values[sign]:02d}"


def main() -> None:
    with command(__doc__, "make 02 from 03 08 03 18") as (url, api_key, questions):
        server = connect(url, api_key=api_key)
        sampling = SamplingConfig(max_new_tokens=128, stop_token_ids=server.encode("=")[-1:])
        method = EagerInit(EagerConfig(threshold=0.5, max_sequences=8, sampling=sampling))
        for question in questions:
            state = agent.run(
                messages(question), method, parse_operation, calculate, backend=server
            )
            print(state.text())


if __name__ == "__main__":
    main()
