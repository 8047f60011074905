"""Runs of `evals/run.py` in forks of one process that has imported everything (`forks.py`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jsonlines

ROOT = Path(__file__).parents[2]
FIRST_RESULT_SECONDS = 120


class Ended(NamedTuple):
    """A run that has ended.

    Attributes:
        code: the exit code, negative if a signal ended it.
    """

    code: int
    output: str
    errors: str


class Kill(NamedTuple):
    """When a run gets a signal: `delay` seconds after its results have so many lines."""

    num_lines: int
    delay: float = 0.0
    number: int = signal.SIGKILL


class Driver:
    """Starts one run at a time."""

    def __init__(self, folder: Path) -> None:
        self._output, self._errors = folder / "output.log", folder / "errors.log"
        self._log = (folder / "driver.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.forks"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, *arguments: str, output_dir: Path, kill: Kill | None = None) -> Ended:
        """A whole run, or one until its kill."""
        self.start(*arguments, output_dir=output_dir, kill=kill)
        return self.end()

    def start(
        self,
        *arguments: str,
        output_dir: Path,
        kill: Kill | None = None,
        pauses: tuple[float, ...] | None = None,
    ) -> None:
        """Begin a run.

        Args:
            pauses: replace the seconds between the tries of a request.
        """
        assert self._process.stdin is not None
        order = {
            "arguments": [*arguments, "--output-dir", str(output_dir)],
            "results": str(output_dir / "results.jsonl"),
            "kill": kill,
            "pauses": pauses,
            "output": str(self._output),
            "errors": str(self._errors),
        }
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def end(self) -> Ended:
        """Wait for the run that was begun."""
        code = int(self._answer())
        return Ended(code, self._output.read_text(), self._errors.read_text())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)
        self._log.close()


def await_result(folder: Path) -> None:
    """Wait for the first result of a run."""
    results, deadline = folder / "results.jsonl", time.monotonic() + FIRST_RESULT_SECONDS
    while not (results.exists() and results.stat().st_size):
        assert time.monotonic() < deadline, f"no result within {FIRST_RESULT_SECONDS} s"
        time.sleep(0.05)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The results of a run."""
    with jsonlines.open(folder / "results.jsonl") as reader:
        return list(reader)
