"""Runs `evals/run.py` again and again, each in a fork: SGLang takes 10 s and more to import.

Reads an order per line, `{"arguments": [...], "kill": null or {"results", "num_lines", "delay"}}`,
and answers with the exit code. A run is killed `delay` seconds after its results have `num_lines`
lines. Nothing of ours starts a thread here, so that a fork is a process like any other.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import eager_sgl.program
from evals import run
from evals.report import page as html_report
from evals.report import plots, report

__all__ = ["html_report", "plots", "report"]


def main() -> None:
    assert eager_sgl.program
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(_fork(order["arguments"], order["kill"]), flush=True)


def _fork(arguments: list[str], kill: dict[str, Any] | None) -> int:
    child = os.fork()
    if child == 0:
        _run(arguments)
    if kill is not None:
        while _num_lines(Path(kill["results"])) < kill["num_lines"]:
            time.sleep(0.01)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        time.sleep(kill["delay"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _run(arguments: list[str]) -> None:
    code = 70
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 0)
        os.dup2(silence, 1)
        code = run.main(arguments)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
