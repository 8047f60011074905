"""The progress view and its numbers."""

import io
from typing import Any

import pytest

from eager_sgl.budget.sequences import Ledger
from eager_sgl.core import TokenCounts
from evals.execution.progress.meter import Meter, Silence
from evals.execution.progress.snapshot import Snapshot
from evals.execution.progress.view import PLAIN_SECONDS, PlainView, TerminalView, open_view
from tests.evals.fakes.clock import Clock

LIMIT = 1000
STEADY = {"seconds": 40.0, "generated": 10_000}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def snapshot(num_done: int, label: str = "parallel", **more: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "num_failed": 0,
        "num_ran": num_done,
        "num_running": 2,
        "seconds": 2.0,
        "generated": 500,
        "num_first_tokens": 0,
        "max_sequences": 16 * (10 - num_done),
        "shared_tokens": None,
    } | more
    return Snapshot(
        label=label,
        num_done=num_done,
        **fields,
        decoding_seconds=fields["seconds"],
        prompt_seconds=fields["seconds"] * fields["num_running"],
        num_prompts=10,
        num_solved=num_done // 2,
        num_alive=3,
        max_length=LIMIT,
        spent=40,
        reserved=8,
        free=112,
        recent_rate=250.0,
        cached_share=0.75,
    )


def test_a_meter_counts_each_prompt_once() -> None:
    clock = Clock()
    meter = Meter("eager_init", 3, Ledger(12), LIMIT, clock)
    meter.report("a", TokenCounts(generated=10, prompt=20, cached=10), 2)
    meter.report("b", TokenCounts(generated=1, prompt=20, cached=20), 1)
    meter.report("a", TokenCounts(generated=30, prompt=60, cached=40), 4)  # cumulative
    clock.now += 2
    now = meter.snapshot()
    assert (now.num_done, now.num_running, now.num_alive, now.generated) == (0, 2, 5, 31)
    assert now.cached_share == 60 / 80
    assert now.tokens_per_second == 15.5
    meter.report("a", TokenCounts(generated=40, prompt=80, cached=50), 0)
    meter.finish("a", solved=True)
    now = meter.snapshot()
    assert (now.num_done, now.num_running, now.num_alive, now.generated) == (1, 1, 1, 41)
    assert (now.num_solved, now.cached_share) == (1, 70 / 100)


def test_prompts_of_an_earlier_session_are_done_and_cost_nothing() -> None:
    meter = Meter("eager_init", 3, Ledger(12), LIMIT, Clock())
    meter.finish("a", solved=False)
    now = meter.snapshot()
    assert (now.num_done, now.num_solved, now.generated) == (1, 0, 0)


def test_nothing_is_divided_by_nothing() -> None:
    now = Meter("eager_init", 3, Ledger(12), LIMIT, Clock()).snapshot()
    assert (now.cached_share, now.tokens_per_second) == (0, 0)
    assert "Pass@k –" in now.describe()


def test_the_budget_is_the_ledger_s() -> None:
    ledger = Ledger(12)
    meter = Meter("eager_init", 3, ledger, LIMIT, Clock())
    with ledger.reserve(4) as account:
        account.commit(1)
        now = meter.snapshot()
        assert (now.spent, now.reserved, now.free) == (1, 3, 8)
    now = meter.snapshot()
    assert (now.spent, now.reserved, now.free) == (1, 0, 11)


def test_a_line_has_all_numbers() -> None:
    line = snapshot(4).describe()
    for text in (
        *("parallel", "4/10 prompts", "2 running", "Pass@k 0.50", "3 sequences"),
        *("budget 40 spent + 8 reserved + 112 free", "250 token/s", "75.0%", "2 s"),
    ):
        assert text in line


@pytest.mark.parametrize(
    ("num_done", "fields", "left"),
    [
        (4, {}, "about 2 s left"),  # 4 + 2 halves in 2 s, 6 − 2 halves to come
        (1, {"seconds": 30.0}, "about 2 min left"),
        (1, {"num_running": 9, "seconds": 60.0}, "about 49 s left"),
        (5, {"seconds": 36_000.0}, "about 6 h 40 min left"),
        (2, {"seconds": 864_000.0}, "about 560 h left"),
        (4, {"num_failed": 4, "num_ran": 8}, "about 0 s left"),
        (0, {}, None),  # two seconds give no rate
        (0, {"seconds": 29.9}, None),
        (0, STEADY, "at most about 10 min left"),  # 150,000 tokens at 250 token/s
        (4, {"num_ran": 0, **STEADY}, "at most about 6 min left"),  # ended in an earlier session
        (0, {**STEADY, "num_first_tokens": 5000}, "at most about 20 min left"),  # 125 token/s
        (0, {**STEADY, "generated": 0}, None),  # the pace is unknown
        (0, {**STEADY, "num_first_tokens": 10_000}, None),  # of its tokens, the seconds are unknown
        (4, {"max_sequences": None}, None),  # grants are unknown
        (0, {"shared_tokens": 3000}, None),
        (0, {**STEADY, "shared_tokens": 12_500}, "about 10 s left"),  # 2,500 tokens are left
        (
            4,
            {**STEADY, "shared_tokens": 400},
            "about 0 s left",
        ),  # the last rounds cost more than expected
        (10, {"num_running": 0}, None),  # nothing is left
        (7, {"num_failed": 3, "num_running": 0}, None),
    ],
)
def test_the_time_left_is_estimated_from_what_has_ended(
    num_done: int, fields: dict[str, Any], left: str | None
) -> None:
    line = snapshot(num_done, **fields).describe()
    assert line.endswith(f", {left}") if left else "left" not in line


def test_failures_are_shown_and_complete_a_cell() -> None:
    meter = Meter("eager_init", 2, Ledger(8), LIMIT, Clock())
    meter.report("a", TokenCounts(generated=30), 2)
    assert meter.fail("a").generated == 30
    meter.finish("b", solved=True)
    now = meter.snapshot()
    assert (now.num_done, now.num_failed, now.num_ran, now.num_running) == (1, 1, 1, 0)
    assert (now.generated, now.complete) == (30, True)
    assert "1/2 prompts, 1 failed, 0 running" in now.describe()
    stream = io.StringIO()
    PlainView(stream).show([now])
    assert stream.getvalue().count("1 failed") == 1


def test_silence_is_due_after_a_minute_and_then_ever_more_rarely() -> None:
    clock = Clock()
    meter, silence = Meter("parallel", 2, Ledger(8), LIMIT, clock), Silence(clock)
    reported = []
    for second in range(1, 1000):
        clock.now += 1
        if second == 500:
            meter.report("a", TokenCounts(), 1)
        if (seconds := silence.due(meter.last_report)) is not None:
            reported.append((second, seconds))
    assert reported == [
        (60, 60),
        (120, 120),
        (240, 240),
        (480, 480),
        (560, 60),
        (620, 120),
        (740, 240),
        (980, 480),
    ]


def test_plain_lines_are_printed_every_few_seconds_and_once_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    view = PlainView(stream, clock)
    for generated in range(int(2.5 * PLAIN_SECONDS / 0.25)):
        clock.now += 0.25
        view.show([snapshot(4, generated=generated)])
    assert stream.getvalue().count("\n") == 2
    for _ in range(2):
        view.show([snapshot(10), snapshot(3, "eager")])
    assert stream.getvalue().count("10/10") == 1
    assert "eager" not in stream.getvalue()
    clock.now += PLAIN_SECONDS
    view.show([snapshot(10), snapshot(3, "eager")])
    assert "eager: 3/10" in stream.getvalue().splitlines()[-1]


def test_a_log_has_a_line_only_for_what_has_changed() -> None:
    clock, stream = Clock(), io.StringIO()
    meter, view = Meter("parallel", 2, Ledger(4), LIMIT, clock), PlainView(stream, clock)

    def watch(seconds: float) -> list[str]:
        num_written = len(stream.getvalue())
        for _ in range(int(seconds / 0.25)):
            clock.now += 0.25
            view.show([meter.snapshot()])
        return stream.getvalue()[num_written:].splitlines()

    meter.report("a", TokenCounts(), 2)
    assert len(watch(PLAIN_SECONDS)) == 1
    assert watch(10 * PLAIN_SECONDS) == []  # the server is frozen
    meter.report("a", TokenCounts(generated=1), 2)
    assert len(watch(0.25)) == 1
    meter.report("a", TokenCounts(generated=2), 2)
    assert watch(PLAIN_SECONDS - 0.25) == []
    assert len(watch(0.25)) == 1
    meter.report("a", TokenCounts(generated=2), 1)  # a sequence has ended
    meter.report("b", TokenCounts(), 2)
    assert len(watch(PLAIN_SECONDS)) == 1
    lines = stream.getvalue().splitlines()
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    ("stream", "kind"), [(Terminal(), TerminalView), (io.StringIO(), PlainView)]
)
def test_the_stream_decides(stream: io.StringIO, kind: type) -> None:
    assert isinstance(open_view(stream), kind)


def test_a_terminal_keeps_printed_lines_and_the_end_of_a_method() -> None:
    stream = Terminal()
    with TerminalView(stream) as view:
        view.show([snapshot(5)])
        view.say("a [bold] line that stays")
        view.show([snapshot(10)])
    written = stream.getvalue()
    assert "━" * 5 + "─" * 5 in written
    assert "a [bold] line that stays" in written
    assert "10/10 prompts" in written
