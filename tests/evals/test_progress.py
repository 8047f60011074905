"""The live view and what it shows."""

import io

import pytest

from eager_sgl.core import TokenCounts
from evals.progress import PLAIN_SECONDS, Meter, PlainView, Snapshot, TerminalView, open_view


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def snapshot(num_done: int, num_prompts: int = 10) -> Snapshot:
    return Snapshot("parallel", num_done, num_prompts, 3, 500, 0.75, 2.0)


def test_a_meter_counts_each_prompt_once() -> None:
    clock = Clock()
    meter = Meter("eager_init", 3, clock)
    meter.report("a", TokenCounts(generated=10, prompt=20, cached=10), 2)
    meter.report("b", TokenCounts(generated=1, prompt=20, cached=20), 1)
    meter.report("a", TokenCounts(generated=30, prompt=60, cached=40), 4)  # cumulative
    clock.now += 2
    now = meter.snapshot()
    assert (now.num_done, now.num_alive, now.generated) == (0, 5, 31)
    assert now.cached_share == 60 / 80
    assert now.tokens_per_second == 15.5
    meter.finish("a", TokenCounts(generated=40, prompt=80, cached=50))
    now = meter.snapshot()
    assert (now.num_done, now.num_alive, now.generated) == (1, 1, 41)
    assert now.cached_share == 70 / 100


def test_nothing_is_divided_by_nothing() -> None:
    now = Meter("eager_init", 3, Clock()).snapshot()
    assert (now.cached_share, now.tokens_per_second) == (0, 0)


def test_a_line_says_all() -> None:
    line = snapshot(4).describe()
    for text in ("parallel", "4/10 prompts", "3 sequences", "250 token/s", "75.0%", "2 s"):
        assert text in line


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    view = PlainView(stream, clock)
    for _ in range(int(2.5 * PLAIN_SECONDS / 0.25)):
        clock.now += 0.25
        view.show(snapshot(4))
    assert stream.getvalue().count("\n") == 2
    view.show(snapshot(10))
    assert "10/10" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("stream", "kind"), [(Terminal(), TerminalView), (io.StringIO(), PlainView)]
)
def test_the_stream_decides(stream: io.StringIO, kind: type) -> None:
    assert isinstance(open_view(stream), kind)


def test_a_terminal_keeps_what_is_said_and_the_end_of_a_method() -> None:
    stream = Terminal()
    with TerminalView(stream) as view:
        view.show(snapshot(5))
        view.say("a [bold] line that stays")
        view.show(snapshot(10))
    written = stream.getvalue()
    assert "━" * 5 + "─" * 5 in written
    assert "a [bold] line that stays" in written
    assert "10/10 prompts" in written
