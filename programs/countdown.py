"""Countdown with a verifier: branch and check every answer, until one is correct.

.venv/bin/python programs/countdown.py 3 8 3 18 --target 2
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerConfig,
    EagerInit,
    EmbeddedRuntime,
    Method,
    TokenEndpoint,
    connect,
    eager_generate,
    set_prompt,
)
from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer

__all__ = ["solve"]

REASONER = Path(__file__).parents[1] / "evals" / "reasoner" / "model"


@sgl.function  # type: ignore[untyped-decorator]
def solve(s: ProgramState, problem: Problem, method: Method, max_tries: int = 8) -> str | None:
    """An expression with the target as its value; None if no sequence of any try has one."""
    set_prompt(s, [{"role": "user", "content": instruction(problem)}])
    for _ in range(max_tries):
        result = eager_generate(s, method)
        for answer in (parse_answer(sequence.text) for sequence in result.sequences):
            if answer is not None and is_correct(problem, answer):
                return answer
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("numbers", type=int, nargs="+")
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--server", help="URL of an SGLang server (default: start one)")
    arguments = parser.parse_args()
    problem = Problem(tuple(arguments.numbers), arguments.target, level=len(arguments.numbers))
    if arguments.server:
        show(problem, connect(arguments.server))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRuntime(REASONER, log_path=Path(folder) / "runtime.log") as runtime,
    ):
        show(problem, connect(runtime.url, api_key=runtime.api_key))


def show(problem: Problem, endpoint: TokenEndpoint) -> None:
    method = EagerInit(EagerConfig(threshold=0.5, max_sequences=16))
    answer = solve.run(problem=problem, method=method, backend=endpoint).ret_value
    print(f"{problem.target} = {answer}" if answer else "no answer found")


if __name__ == "__main__":
    main()
