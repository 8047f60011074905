"""A checkout whose commands are tried: run, timed, and looked at afterwards."""

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
"""Brings a fault about while a command runs, and says when, by the monotonic clock."""


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        exit_code: None where it was still running when the time was up.
        num_kept: results in its folder.
        num_failed: results that it recorded as failed.
        seconds: from the fault to the first line that reports it, or to the end.
        words: the line that reports it, or the last one.
        is_run: whether it was a run, which has results.
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
    """A checkout with an environment of its own.

    Args:
        checkout: its root.
        folder: for what its runs write.
    """

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder
        text = (checkout / "evals" / "command_line.py").read_text()
        self._has_two_limits = "--request-timeout" in text

    def limits(self, seconds: int) -> tuple[str, ...]:
        """Options that limit how long a request may take."""
        if self._has_two_limits:
            return "--request-timeout", str(seconds), "--silence-timeout", str(seconds)
        return "--timeout", str(seconds)

    def run(self, name: str, *arguments: str, fault: Fault | None = None) -> Outcome:
        """The methods on the prompts, in a folder by that name."""
        output = self.folder / name
        limit = () if "--task" in arguments else ("--limit", str(NUM_PROMPTS))
        return self._watch((*_RUN, *limit, *arguments, "--output-dir", str(output)), output, fault)

    def script(self, text: str) -> Outcome:
        """A Python text."""
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
    """Whole lines of a file, which need not be there."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _environment(ours: Mapping[str, str], checkout: Path) -> dict[str, str]:
    return {**ours, "EAGER_SGL_API_KEY": API_KEY, "PYTHONPATH": str(checkout)}


def _num_failed(path: Path) -> int:
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return len({(line["method"], line["sample_id"]) for line in lines})


def _lines_of(process: subprocess.Popen[str]) -> Lines:
    """The lines of the output with the moment at which each came, then None."""
    lines: Lines = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put((time.monotonic(), line.strip()))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _follow(lines: Lines, at: float) -> tuple[bool, float, str]:
    """Whether a command ended in time, and the line that reports the fault, else the last one."""
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
