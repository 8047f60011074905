"""The server's steps during a pass, from its log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import fmean, median

__all__ = ["ServerSteps", "steps_in"]

PREFILL_MARK = "Prefill batch"
DECODE = re.compile(r"Decode batch.*#running-req: (\d+),.*gen throughput \(token/s\): ([\d.]+)")
"""Every 40th decoding step has a line, with the mean rate since the one before."""


@dataclass(frozen=True)
class ServerSteps:
    """Forward passes of a server.

    Attributes:
        prefills: number of those that began requests.
        running: requests that decode at a step, in the mean; None where the log has too few lines.
        seconds: of a decoding step, in the median: running requests over tokens per second; None as
            `running`.
    """

    prefills: int
    running: float | None
    seconds: float | None


def steps_in(log: str) -> ServerSteps:
    """The steps of a part of SGLang's log."""
    # The rate of the first line is also that of the time before the pass.
    lines = [(int(running), float(rate)) for running, rate in DECODE.findall(log)][1:]
    seconds = [running / rate for running, rate in lines if rate > 0]
    return ServerSteps(
        prefills=log.count(PREFILL_MARK),
        running=fmean(running for running, _ in lines) if lines else None,
        seconds=median(seconds) if seconds else None,
    )
