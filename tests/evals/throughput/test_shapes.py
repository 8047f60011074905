"""The ways to generate that a benchmark times, and its figures."""

import pytest

from eager_sgl import (
    BestFirst,
    EagerInit,
    FullParallel,
    SamplingConfig,
    TokenCounts,
    TrieParallel,
)
from evals.throughput.contenders import PLAIN, contenders, searches_of
from evals.throughput.rows import Passes, Shape, Share
from evals.throughput.steps import ServerSteps, steps_in
from evals.throughput.workload import Cost

SAMPLING = SamplingConfig(max_new_tokens=99)
LOG = """
[x] Decode batch, #running-req: 9, #token: 1, gen throughput (token/s): 0.10, #queue-req: 0
[x] Prefill batch, #new-seq: 1, #new-token: 14, #running-req: 0, #queue-req: 0
[x] Decode batch, #running-req: 10, #token: 1, gen throughput (token/s): 100.00, #queue-req: 0
[x] Decode batch, #running-req: 30, #token: 1, gen throughput (token/s): 200.00, #queue-req: 0
"""


def test_chunk_is_timed_with_every_size_and_step_once() -> None:
    ways = contenders(["gate", "chunk", "step"], [16, 64])
    assert [(way.monitor, way.chunk_tokens, way.once) for way in ways] == [
        ("gate", None, False),
        ("chunk", 16, False),
        ("chunk", 64, False),
        ("step", 1, True),
    ]


@pytest.mark.parametrize(
    ("monitor", "expected"), [("gate", "gate"), ("chunk", "chunk"), ("step", "chunk")]
)
def test_a_way_is_a_monitor_of_eager_init(monitor: str, expected: str) -> None:
    (way,) = contenders([monitor], [16])
    method = way.build(0.05, 32, SAMPLING)
    assert isinstance(method, EagerInit)
    config = method.config
    assert (config.monitor, config.threshold, config.max_sequences) == (expected, 0.05, 32)
    assert config.sampling == SAMPLING


def test_a_search_is_compared_with_as_many_plain_sequences() -> None:
    searches = searches_of(["trie_parallel", "best_first"], ["chunk"])
    methods = [way.build(None, 32, SAMPLING) for way in (*searches, PLAIN)]
    assert [type(method) for method in methods] == [TrieParallel, BestFirst, FullParallel]
    assert {(method.max_sequences, method.sampling) for method in methods} == {(32, SAMPLING)}


def test_best_first_alone_is_timed_with_every_width() -> None:
    ways = searches_of(["trie_parallel", "best_first"], ["gate"], [8, 16])
    assert [(way.method, way.width) for way in ways] == [
        ("trie_parallel", None),
        ("best_first", 8),
        ("best_first", 16),
    ]
    methods = [way.build(None, 32, SAMPLING) for way in ways]
    widths = [method.config.width for method in methods if isinstance(method, BestFirst)]
    assert widths == [8, 16]


@pytest.mark.parametrize(("rounds", "total"), [(0.1, 4), (1, 8), (2.5, 20)])
def test_rounds_are_of_the_prompts_at_once(rounds: float, total: int) -> None:
    assert Shape("natural", 8, 4, rounds).total == total


@pytest.mark.parametrize(("mode", "threshold"), [("eager", 0.05), ("2.2", 2.2), ("", None)])
def test_a_mode_is_a_name_or_a_number(mode: str, threshold: float | None) -> None:
    assert Shape(mode, 8, 4, rounds=1).threshold == threshold


def test_a_share_is_of_the_same_pass() -> None:
    """A pass in which the machine was busy slows both sides."""
    share = Share.of([90.0, 45.0, 80.0], [100.0, 50.0, 100.0])
    assert share == Share(0.9, (0.8, 0.9))
    assert Share.of([30.0], [100.0, 50.0]).median == pytest.approx(0.3)


def test_discarded_tokens_are_decoded_and_not_delivered() -> None:
    plain = Passes(PLAIN, costs=[_cost(delivered=100, generated=100)])
    (way,) = contenders(["chunk"], [32])
    row = Passes(way, costs=[_cost(delivered=60, generated=80)]).throughput(
        Shape("natural", 8, 8, 1), plain
    )
    assert row.efficiency.median == pytest.approx(0.8)
    assert row.delivered_efficiency.median == pytest.approx(0.6)
    assert row.discarded_share == pytest.approx(0.25)


def test_steps_are_those_after_the_first_line_of_a_pass() -> None:
    assert steps_in(LOG) == ServerSteps(prefills=1, running=20.0, seconds=0.125)
    assert steps_in("") == ServerSteps(prefills=0, running=None, seconds=None)


def _cost(delivered: int, generated: int) -> Cost:
    return Cost(delivered, 1.0, 0.1, None, TokenCounts(generated=generated, requests=1), None)
