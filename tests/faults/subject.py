"""A checkout whose commands are run, timed, and inspected afterwards."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["API_KEY", "NUM_PROMPTS", "NUM_RESULTS", "Outcome", "Subject", "count_lines"]

API_KEY = "the-key-of-the-faults"
NUM_PROMPTS = 48
METHODS = "parallel", "eager_init"
NUM_RESULTS = len(METHODS) * NUM_PROMPTS
LIMIT_SECONDS = 300.0
_RUN = ("evals/run.py", "--methods", ",".join(METHODS), "--max-sequences", "4", "--theta", "0.7")
_REPORT = re.compile(r"error|warning|failed|no answer|traceback|refused", re.IGNORECASE)

Lines = queue.Queue[tuple[float, str] | None]
Fault = Callable[[subprocess.Popen[str]], float]
"""Causes a fault while a command runs, and returns its time, by the monotonic clock."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command.

    Attributes:
        exit_code: None if it was still running at the time limit.
        num_kept: results in its folder.
        num_failed: results that it recorded as failed.
        seconds: from the fault to the first line that reports it, or to the end.
        words: the line that reports the fault, or the last line.
        is_run: whether the command was a run, which has results.
    """

    exit_code: int | None
    num_kept: int
    num_failed: int
    seconds: float
    words: str
    is_run: bool = True

    @property
    def num_lost(self) -> int:
        return NUM_RESULTS - self.num_kept - self.num_failed


class Subject:
    """A checkout with its environment.

    Args:
        checkout: its root.
        folder: for the output of its runs.
    """

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder

    def run(self, name: str, *arguments: str, fault: Fault | None = None) -> Outcome:
        """Run the methods on the prompts, with results in a folder of that name."""
        output = self.folder / name
        limit = () if "--task" in arguments else ("--limit", str(NUM_PROMPTS))
        return self._watch((*_RUN, *limit, *arguments, "--output-dir", str(output)), output, fault)

    def script(self, text: str) -> Outcome:
        """Run a Python text."""
        return replace(self._watch(("-c", text), self.folder / "script", None), is_run=False)

    def _watch(self, command: tuple[str, ...], output: Path, fault: Fault | None) -> Outcome:
        at = time.monotonic()
        process = subprocess.Popen(
            [str(self.checkout / ".venv" / "bin" / "python"), *command],
            cwd=self.checkout,
            env=_environment(os.environ, self.checkout),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        lines = _lines_of(process)
        if fault is not None:
            at = fault(process)
        has_ended, moment, words = _follow(lines, at)
        if not has_ended:
            process.kill()
        code = process.wait()
        return Outcome(
            exit_code=code if has_ended else None,
            num_kept=count_lines(output / "results.jsonl"),
            num_failed=_num_failed(output / "failures.jsonl"),
            seconds=moment - at,
            words=words,
        )


def count_lines(path: Path) -> int:
    """The number of whole lines of a file, which may not exist."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _environment(ours: Mapping[str, str], checkout: Path) -> dict[str, str]:
    return {**ours, "EAGER_SGL_API_KEY": API_KEY, "PYTHONPATH": str(checkout)}


def _num_failed(path: Path) -> int:
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return len({(line["method"], line["sample_id"]) for line in lines})


def _lines_of(process: subprocess.Popen[str]) -> Lines:
    """The lines of the output with the times at which they arrived, then None."""
    lines: Lines = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put((time.monotonic(), line.strip()))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _follow(lines: Lines, at: float) -> tuple[bool, float, str]:
    """Whether a command ended in time; when and how it reported the fault, or its last line."""
    moment, words, is_reported = at, "", False
    while True:
        try:
            entry = lines.get(timeout=max(0.0, at + LIMIT_SECONDS - time.monotonic()))
        except queue.Empty:
            return False, moment if is_reported else at + LIMIT_SECONDS, words
        if entry is None:
            return True, moment, words
        if not is_reported and entry[1]:
            moment, words = entry
            is_reported = moment >= at and _REPORT.search(words) is not None
