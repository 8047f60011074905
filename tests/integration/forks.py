"""Runs `evals/run.py` again and again, each in a fork: its imports take seconds.

Reads an order per line (`driver.Driver.start`) and answers with the exit code. Nothing of ours
starts a thread here, so that a fork is a process like any other.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import eager_sgl.generate.client
from eager_sgl.engine import limits
from evals import run
from evals.report import page, summarise, table
from evals.report.page import plots
from tests.integration.driver import Kill

__all__ = ["page", "plots", "summarise", "table"]


def main() -> None:
    assert eager_sgl.generate.client
    print("ready", flush=True)
    for line in sys.stdin:
        print(_fork(json.loads(line)), flush=True)


def _fork(order: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        _run(order)
    if order["kill"] is not None:
        kill = Kill(*order["kill"])
        while _num_lines(Path(order["results"])) < kill.num_lines:
            time.sleep(0.01)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        time.sleep(kill.delay)
        os.kill(child, kill.number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _run(order: dict[str, Any]) -> None:
    code = 70
    try:
        for descriptor, path in enumerate((os.devnull, order["output"], order["errors"])):
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(path, flags, 0o644), descriptor)
        # A process in the background ignores SIGINT, and so do its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if order["pauses"] is not None:
            object.__setattr__(limits.PATIENT, "pauses", tuple(order["pauses"]))
        code = run.main(order["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
