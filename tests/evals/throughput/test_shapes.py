"""The ways to generate that a benchmark times."""

import pytest

from evals.throughput.shapes import Shape, contenders


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
    config = way.config(Shape("eager", 8, 32, rounds=1), max_new_tokens=99)
    assert (config.monitor, config.threshold, config.max_sequences) == (expected, 0.05, 32)
    assert config.sampling.max_new_tokens == 99


@pytest.mark.parametrize(("rounds", "total"), [(0.1, 4), (1, 8), (2.5, 20)])
def test_rounds_are_of_the_prompts_at_once(rounds: float, total: int) -> None:
    assert Shape("natural", 8, 4, rounds).total == total
