"""The order of passes, without a server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import pytest

from eager_sgl import PromptResult, SamplingConfig, TokenCounts
from eager_sgl.methods import Method
from evals.throughput import shapes
from evals.throughput.contenders import searches_of
from evals.throughput.rows import Shape, Throughput
from evals.throughput.shapes import time_shape
from evals.throughput.workload import Cost, Stopwatch

if TYPE_CHECKING:
    from eager_sgl import Client

SEARCHES = searches_of(["trie_parallel", "best_first", "swor"], ["chunk"])
WARM_UP = 1


class FakeClient:
    def encode(self, prompt: object) -> tuple[int, ...]:
        return (1, 2, 3)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Class names of the methods that are run, in order; each takes a second."""
    names: list[str] = []

    def grow_trees(
        client: Client, prompts: Sequence[object], method: Method, *arguments: object
    ) -> tuple[Cost, list[PromptResult]]:
        names.append(type(method).__name__)
        return Cost(10, 1.0, 0.1, None, TokenCounts(generated=10), None), []

    monkeypatch.setattr(shapes, "grow_trees", grow_trees)
    return names


def rows_of(repeats: int, until: float = math.inf) -> list[Throughput]:
    shape, client = Shape("", 4, 4, rounds=1), cast("Client", FakeClient())
    sampling = SamplingConfig(max_new_tokens=8)
    timed = time_shape(shape, SEARCHES, client, Stopwatch(), sampling, repeats=repeats, until=until)
    return list(timed)


def test_every_pass_begins_with_plain_sampling_and_then_another_search(timed: list[str]) -> None:
    rows = rows_of(repeats=3)
    assert [row.num_passes for row in rows] == [3] * 4
    passes = [timed[start : start + 4] for start in range(WARM_UP, len(timed), 4)]
    assert [names[0] for names in passes] == ["FullParallel"] * 3
    assert len({names[1] for names in passes}) == 3
    assert all(len(set(names)) == 4 for names in passes)


def test_no_pass_but_the_first_begins_after_the_end(timed: list[str]) -> None:
    rows = rows_of(repeats=3, until=-math.inf)
    assert [row.num_passes for row in rows] == [1] * 4
    assert len(timed) == WARM_UP + 4
