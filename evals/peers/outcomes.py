"""A contender's answers, judged, with the tokens that the server generated for them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from eager_sgl.engine.protocol import Json
from evals.analysis.intervals import mean_interval, resamples
from evals.tasks import Sample, Task
from evals.tasks.countdown_rules import parse_answer
from evals.throughput.endpoint.counters import ServerCounts

__all__ = ["HEAD", "Course", "PeerResult", "Setting", "line_of"]

ROOT = Path(__file__).parents[2]
_LIMIT_SECONDS = 1800.0
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all contenders have in common.

    Attributes:
        model: name of the served model.
        budget: sequences of a prompt.
        temperature: of sampling.
        max_tokens: of a sequence.
        at_once: prompts that run at the same time.
        options: further fields of `eager`, for ours.
    """

    model: str
    budget: int
    temperature: float
    max_tokens: int
    at_once: int
    options: Json


@dataclass(frozen=True)
class PeerResult:
    """What a contender has reached.

    Attributes:
        contender: its name.
        is_correct: by prompt.
        generated: tokens, by the server's counter.
        counted: tokens by the contender's own count.
        seconds: for all prompts.
        texts: of the answers.
    """

    contender: str
    is_correct: list[bool]
    generated: int
    counted: int
    seconds: float
    texts: list[str]

    @property
    def summary(self) -> str:
        """A line without intervals."""
        share = sum(self.is_correct) / len(self.is_correct)
        return f"{self.contender}: {share:.3f}, {self.generated:,} tokens, {self.seconds:.1f} s"


@dataclass(frozen=True)
class Course:
    """The task that all contenders solve.

    Attributes:
        python: of the peers' environment.
        setting: in common.
        counts: of the SGLang server behind all.
        task: judges.
        samples: its prompts.
    """

    python: Path
    setting: Setting
    counts: ServerCounts
    task: Task
    samples: Sequence[Sample]

    def result_of(self, contender: str, url: str, api_key: str | None, options: Json) -> PeerResult:
        """Let a contender answer all prompts.

        Args:
            contender: a name that `clients` knows.
            url: base URL of the server that it asks.
            api_key: that the server requires.
            options: of this contender, beside those in common.

        Raises:
            RuntimeError: the contender failed.
        """
        job: Json = asdict(self.setting) | {"contender": contender, "url": url}
        job |= {"api_key": api_key or "none", "prompts": [s.prompt for s in self.samples]}
        job["options"] = self.setting.options | options
        before = self.counts.num_generated()
        answers = self._answers(job)
        texts: list[str] = answers["texts"]
        return PeerResult(
            contender,
            [self._is_correct(*pair) for pair in zip(self.samples, texts, strict=True)],
            self.counts.num_generated() - before,
            sum(answers["counted"]),
            answers["seconds"],
            texts,
        )

    def _answers(self, job: Json) -> Json:
        done = subprocess.run(
            [str(self.python), "-m", "evals.peers.clients"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{job['contender']} failed: {done.stderr[-2000:]}")
        answers: Json = json.loads(done.stdout)
        return answers

    def _is_correct(self, sample: Sample, text: str) -> bool:
        return self.task.score(sample, parse_answer(text) or text).correct


HEAD = (
    "contender",
    "accuracy",
    "difference from the best peer",
    "tokens generated",
    "counted by itself",
    "seconds",
    "tokens / best peer",
    "seconds / best peer",
)


def line_of(outcome: PeerResult, best: PeerResult) -> str:
    """A row of the table, in Markdown; `best` is the peer with the highest accuracy."""
    correct = np.array(outcome.is_correct, float)
    low, high = resamples(len(correct)).share_interval(correct, _CONFIDENCE)
    difference = correct - np.array(best.is_correct, float)
    between = mean_interval(difference, 1, _CONFIDENCE)
    cells = (
        outcome.contender,
        f"{correct.mean():.3f} [{low:.2f}, {high:.2f}]",
        ""
        if between is None
        else f"{difference.mean():+.3f} [{between[0]:+.2f}, {between[1]:+.2f}]",
        f"{outcome.generated:,}",
        f"{outcome.counted:,}",
        f"{outcome.seconds:.1f}",
        f"{outcome.generated / best.generated:.2f}",
        f"{outcome.seconds / best.seconds:.2f}",
    )
    return f"| {' | '.join(cells)} |"
