"""The client alone on the instant server: threads, and what small runs leave behind."""

from __future__ import annotations

import threading

import pytest

from evals.throughput.client import time_client, time_small_runs


@pytest.mark.parametrize("num_prompts", [100])
def test_prompts_in_flight_share_the_thread_of_the_connections(num_prompts: int) -> None:
    before = threading.active_count()
    rows = time_client([], [num_prompts])
    assert [row.live_branches for row in rows] == [2 * num_prompts] * 2
    assert all(row.threads <= before + 2 for row in rows)


def test_small_runs_leave_nothing_behind() -> None:
    residues = list(time_small_runs(100, at_once=10))
    assert [residue.runs for residue in residues] == list(range(10, 101, 10))
    # What other tests have left behind may end in between.
    assert residues[-1].descriptors <= residues[0].descriptors
    assert residues[-1].threads <= residues[0].threads
    assert residues[-1].tasks == 0
