"""GSM8K: 1,319 word problems; the answer follows `####` at the end of the worked solution.

The revision and the configuration are those of ai-dynamo/aiperf, `gsm8k`; the columns (question,
answer; split test) and the mark are those of inspect_evals 0.26.0, `inspect_evals/gsm8k/gsm8k.py`.
"""

from evals.tasks.benchmark import MathBenchmark
from evals.tasks.hub import DatasetError, Source

__all__ = ["TASK", "WordProblems"]

MARK = "####"


class WordProblems(MathBenchmark):
    """Word problems whose answer follows a mark, with commas between thousands."""

    def gold(self, answer: str) -> str:
        _, mark, number = answer.rpartition(MARK)
        if not mark:
            raise DatasetError(f"{self.name}: no {MARK} in the answer {answer[-60:]!r}")
        return number.strip().replace(",", "")


TASK = WordProblems(
    name="gsm8k",
    source=Source(
        path="openai/gsm8k",
        names=("main",),
        split="test",
        revision="740312add88f781978c0658806c59bc2815b9866",
        columns=("question", "answer"),
    ),
    question="question",
    answer="answer",
)
