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
from typing import NamedTuple

import psutil

from eager_sgl import EmbeddedRuntime
from tests.conftest import REASONER
from tests.faults.gate_load import Load, Tally, send_all

API_KEY = "gate"
PROMPT = list(range(5, 25))
OVERLAPPED: dict[str, object] = {"disable_overlap_schedule": False}
RETRACTING = {"SGLANG_TEST_RETRACT": "1", "SGLANG_TEST_RETRACT_INTERVAL": "7"}
"""SGLang's own switch: every seventh step retracts requests."""


class Row(NamedTuple):
    """A server, and how many requests it gets at once, and how often."""

    name: str
    arguments: dict[str, object]
    environment: dict[str, str]
    number: int
    times: int


ROWS = [
    Row("1,000 requests at once", {}, {}, 1000, 3),
    Row("the overlap schedule", OVERLAPPED, {}, 300, 2),
    Row("retractions", {}, RETRACTING, 200, 2),
    Row("retractions and the overlap schedule", OVERLAPPED, RETRACTING, 200, 2),
]


def main() -> int:
    """Print the table; the number of faults."""
    print(
        "| server | requests | true reports | plain | aborted | retractions | faults | MB grown |"
    )
    print("|---|---|---|---|---|---|---|---|")
    num_faults = 0
    for row in ROWS:
        tallies, grown = tried(row)
        faults = [fault for tally in tallies for fault in tally.faults]
        sums = (
            sum(getattr(t, n) for t in tallies)
            for n in ("observed", "plain", "aborted", "retracted")
        )
        cells = (row.name, row.number * row.times, *sums, len(faults), f"{grown:.0f}")
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        for fault in faults[:5]:
            print(f"    {fault}")
        num_faults += len(faults)
    return num_faults


def tried(row: Row) -> tuple[list[Tally], float]:
    """The tallies of a new server, and by how many MB it has grown after the first."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRuntime(
            REASONER,
            log_path=Path(folder) / "log",
            server_args={"api_key": API_KEY, **row.arguments},
            environment=row.environment,
        ) as runtime,
    ):
        load = Load(runtime.url, API_KEY, PROMPT)
        tallies, sizes = [], []
        for seed in range(row.times):
            tallies.append(asyncio.run(send_all(load, row.number, seed)))
            time.sleep(2)
            sizes.append(_megabytes(runtime.pid))
    return tallies, sizes[-1] - sizes[0]


def _megabytes(pid: int) -> float:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(process.memory_info().rss for process in processes) / 2**20)


if __name__ == "__main__":
    sys.exit(main() > 0)
