"""A table of what the gate withstands inside a server, tried on the real runtime.

    python -m tests.faults.gate_table

Requests of all kinds run at once, with and without a gate, some of them aborted. A report is true
if it equals SGLang's own logprobs of the same step.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psutil

from eager_sgl import EmbeddedRuntime
from tests.conftest import REASONER
from tests.faults.gate_load import Load, Tally, send_all

API_KEY = "gate"
PROMPT = list(range(5, 25))
ROWS: dict[str, tuple[dict[str, object], int, int]] = {
    "1,000 requests at once": ({}, 1000, 3),
    "with the overlap schedule": ({"disable_overlap_schedule": False}, 300, 2),
    "memory for 1,500 tokens, so that requests are retracted": (
        {"max_total_tokens": 1500, "schedule_conservativeness": 0.05},
        300,
        2,
    ),
    "the same with the overlap schedule": (
        {
            "max_total_tokens": 1500,
            "schedule_conservativeness": 0.05,
            "disable_overlap_schedule": False,
        },
        300,
        2,
    ),
}
"""Arguments of the server, requests at once, and how often."""


def main() -> int:
    """Print the table; the number of faults."""
    print(
        "| server | requests | true reports | plain | aborted | retractions | faults | MB grown |"
    )
    print("|---|---|---|---|---|---|---|---|")
    num_faults = 0
    for name, (arguments, number, times) in ROWS.items():
        tallies, grown = tried(arguments, number, times)
        faults = [fault for tally in tallies for fault in tally.faults]
        sums = (
            sum(getattr(t, n) for t in tallies)
            for n in ("observed", "plain", "aborted", "retracted")
        )
        cells = (name, number * times, *sums, len(faults), f"{grown:.0f}")
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        for fault in faults[:5]:
            print(f"    {fault}")
        num_faults += len(faults)
    return num_faults


def tried(arguments: dict[str, object], number: int, times: int) -> tuple[list[Tally], float]:
    """The tallies of a new server, and by how many MB it has grown after the first."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRuntime(
            REASONER,
            log_path=Path(folder) / "log",
            server_args={"api_key": API_KEY, **arguments},
        ) as runtime,
    ):
        load = Load(runtime.url, API_KEY, PROMPT)
        tallies, sizes = [], []
        for seed in range(times):
            tallies.append(asyncio.run(send_all(load, number, seed)))
            time.sleep(2)
            sizes.append(_megabytes(runtime.pid))
    return tallies, sizes[-1] - sizes[0]


def _megabytes(pid: int) -> float:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(process.memory_info().rss for process in processes) / 2**20)


if __name__ == "__main__":
    sys.exit(main() > 0)
