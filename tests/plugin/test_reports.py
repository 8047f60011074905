"""A request's reports: what waits, what is sent, and what a retraction leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eager_sgl.plugin.blocks import Reports, unpack
from eager_sgl.plugin.reports import NEVER, Report, Row
from eager_sgl.plugin.signals import NUM_VALUES
from eager_sgl.plugin.vocabulary import COLUMNS, Gate
from tests.plugin.fakes import TOP_K, reading

FIRES, STORED = 1, 2


def request(stream_interval: int | None = None) -> Any:
    params = SimpleNamespace(stream_interval=stream_interval, top_p=1.0, top_k=1 << 30, min_p=0.0)
    return SimpleNamespace(
        origin_input_ids=[1, 2], output_ids=[], sampling_params=params, to_finish=None
    )


def widened(row: Row, top_k: int) -> Row:
    """The same reading in a batch whose largest K is `top_k`."""
    values, logprobs, ids = np.split(row, (NUM_VALUES, NUM_VALUES + TOP_K))
    more = np.zeros(top_k - TOP_K, np.float32)
    return np.concatenate((values, logprobs, more, ids, more))


def sent(report: Report, stop: int) -> Reports:
    return unpack(report.take(stop), TOP_K)


def test_a_step_that_is_drawn_again_counts_once() -> None:
    report = Report(request(), Gate(top_k=TOP_K, threshold=1.0, max_reports=2))
    for index in (0, 0, 0, 1):
        report.add(index, reading(index, FIRES))
    assert sent(report, 2).indices.tolist() == [0, 1]


def test_steps_that_reach_theta_wake_the_stream_and_stored_ones_wait() -> None:
    asked = request()
    report = Report(asked, Gate(top_k=TOP_K, threshold=1.0, stored_below=0.9))
    params = asked.sampling_params
    assert params.stream_interval == NEVER
    report.add(0, reading(10))
    report.add(1, reading(11, STORED))
    assert params.stream_interval == NEVER
    report.add(2, reading(12, FIRES))
    assert params.stream_interval == 1
    reports = sent(report, 3)
    assert reports.indices.tolist() == [1, 2]
    assert reports.token_ids.tolist() == [[11] * TOP_K, [12] * TOP_K]
    assert reports.logprobs.tolist() == [[11.0] * TOP_K, [12.0] * TOP_K]
    assert params.stream_interval == NEVER
    assert report.take(3) == []


def test_a_step_is_sent_with_its_token_and_not_before() -> None:
    asked = request()
    report = Report(asked, Gate(top_k=TOP_K, threshold=1.0, columns=("entropies",)))
    for index in range(4):
        report.add(index, reading(index, FIRES))
    assert sent(report, 2).indices.tolist() == [0, 1]
    assert asked.sampling_params.stream_interval == 1  # two wait
    rest = report.take(4)
    assert unpack(rest[1:], TOP_K).indices.tolist() == [2, 3]
    assert asked.sampling_params.stream_interval == NEVER


def test_the_caller_s_interval_returns() -> None:
    asked = request(stream_interval=16)
    report = Report(asked, Gate(top_k=TOP_K, threshold=1.0))
    report.add(0, reading(1, FIRES))
    assert asked.sampling_params.stream_interval == 1
    report.take(1)
    assert asked.sampling_params.stream_interval == 16


def test_the_interval_returns_while_later_steps_below_theta_wait() -> None:
    """A step is often known before the tokens up to the one before it are sent."""
    asked = request(stream_interval=16)
    report = Report(asked, Gate(top_k=TOP_K, threshold=1.0, columns=("entropies",)))
    report.add(0, reading(1, FIRES))
    report.add(1, reading(2, STORED))
    report.add(2, reading(3))
    report.take(1)
    assert asked.sampling_params.stream_interval == 16
    report.add(3, reading(4, FIRES))
    report.take(2)
    assert asked.sampling_params.stream_interval == 1


def test_a_request_without_a_threshold_streams_as_it_would() -> None:
    for interval in (None, 16):
        asked = request(interval)
        report = Report(asked, Gate(top_k=TOP_K, stored_below=0.9, columns=("logprobs",)))
        report.add(0, reading(1, STORED))
        report.take(1)
        assert asked.sampling_params.stream_interval == interval


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_no_more_steps_than_asked_are_reported_for_their_entropy(limit: int) -> None:
    report = Report(request(), Gate(top_k=TOP_K, threshold=1.0, max_reports=limit))
    for index in range(5):
        report.add(index, reading(index, FIRES))
    assert sent(report, 5).indices.tolist() == list(range(limit))


def test_columns_hold_every_token_in_the_order_of_the_vocabulary() -> None:
    report = Report(request(), Gate(top_k=TOP_K, columns=COLUMNS))
    for index in range(3):
        report.add(index, reading(index))
    reports = sent(report, 3)
    assert {name: values.tolist() for name, values in reports.columns.items()} == {
        name: [0.0, 1.0, 2.0] for name in COLUMNS
    }
    assert reports.indices.size == 0


def test_tokens_that_are_drawn_again_replace_those_that_were_not_sent() -> None:
    report = Report(request(), Gate(top_k=TOP_K, threshold=1.0, columns=("logprobs",)))
    report.add(0, reading(1))
    report.add(1, reading(2, FIRES))
    report.add(2, reading(3, FIRES))
    first = report.take(1)
    # The server retracts the request: its second token is drawn again, and so is the third.
    report.add(1, reading(5))
    report.add(2, reading(6, FIRES))
    reports = unpack([*first, *report.take(3)], TOP_K)
    assert reports.columns["logprobs"].tolist() == [1.0, 5.0, 6.0]
    assert reports.indices.tolist() == [2]
    assert reports.token_ids[0].tolist() == [6] * TOP_K


def test_the_largest_k_of_the_batch_may_change_between_steps() -> None:
    report = Report(request(), Gate(top_k=TOP_K, threshold=1.0, columns=("entropies",)))
    for index, top_k in enumerate((TOP_K, 8, 5)):
        report.add(index, widened(reading(index, FIRES), top_k))
    reports = sent(report, 3)
    assert reports.token_ids.tolist() == [[0] * TOP_K, [1] * TOP_K, [2] * TOP_K]
    assert reports.logprobs.tolist() == reports.token_ids.tolist()


def test_steps_of_the_prompt_and_after_the_end_are_never_sent() -> None:
    report = Report(request(), Gate(top_k=TOP_K, stored_below=2.0))
    for index in (-5, -1, 0, 1, 2):
        report.add(index, reading(max(index, 0), STORED))
    assert sent(report, 2).indices.tolist() == [0, 1]


def test_a_fault_is_sent_once_and_nothing_after_it() -> None:
    report = Report(request(), Gate(top_k=TOP_K, columns=("logprobs",)))
    report.add(0, reading(1))
    report.fail("RuntimeError('no')")
    report.add(1, reading(2))
    assert sent(report, 1).fault == "RuntimeError('no')"
    assert report.take(2) == []


@pytest.mark.parametrize(
    ("window", "floor", "cut"), [(1, 3.5, 3), (2, 4.0, 3), (2, 3.7, 4), (9, 9, None)]
)
def test_a_request_ends_where_its_mean_confidence_falls_below_the_floor(
    window: int, floor: float, cut: int | None
) -> None:
    confidences = [9, 8, 5, 2.5, 2, 9]
    asked = request()
    report = Report(asked, Gate(top_k=TOP_K, window=window, floor=floor, columns=("confidences",)))
    for index, value in enumerate(confidences):
        report.end_below_floor(index - 2, lambda: "low")
        report.add(index, reading(value))
    assert (asked.to_finish == "low") == (cut is not None and cut <= 3)
    report.end_below_floor(len(confidences) - 2, lambda: "low")
    reports = sent(report, len(confidences))
    expected = None if cut is None else cut
    assert (reports.cut and reports.cut[0]) == expected
    if cut is not None and reports.cut:
        assert asked.to_finish == "low"
        mean = float(np.mean(confidences[cut + 1 - window : cut + 1]))
        assert reports.cut[1] == pytest.approx(mean)


@pytest.mark.parametrize("num_before", [0, 1, 3, 5])
def test_steps_before_a_request_count_in_its_window(num_before: int) -> None:
    """So that a branch is cut where its whole path would be."""
    path, window, floor = (9.0, 8.0, 5.0, 2.5, 2.0, 9.0, 1.0), 3, 4.2
    means = [sum(path[i - 2 : i + 1]) / window for i in range(2, len(path))]
    first = 2 + next(i for i, mean in enumerate(means) if mean < floor and i + 2 >= num_before)
    before = path[max(0, num_before - window + 1) : num_before]
    report = Report(request(), Gate(top_k=TOP_K, window=window, floor=floor, before=before))
    for index, value in enumerate(path[num_before:]):
        report.add(index, reading(value))
    cut = sent(report, len(path) - num_before).cut
    assert cut is not None
    assert cut[0] == first - num_before
    assert cut[1] == pytest.approx(means[first - 2])


@pytest.mark.parametrize("parts", [range(1, 7), (2, 4, 6), (6,)])
def test_no_part_has_tokens_after_a_cut_that_it_does_not_report(parts: Any) -> None:
    """Or a stream that breaks before the next part would continue after the cut."""
    confidences = [9, 9, 9, 1, 9, 9]
    asked = request()
    report = Report(asked, Gate(top_k=TOP_K, window=2, floor=6.0))
    blocks: list[str] = []
    for index, value in enumerate(confidences):
        report.end_below_floor(index - 2, lambda: "low")
        report.add(index, reading(value))
        if index + 1 in parts:
            assert asked.to_finish == ("low" if index >= 5 else None)
            blocks += report.take(index + 1)
            cut = unpack(blocks, TOP_K).cut
            assert (cut and cut[0]) == (3 if index >= 3 else None)
    assert len(blocks) == 1


def test_a_retracted_request_keeps_a_true_running_mean() -> None:
    asked = request()
    report = Report(asked, Gate(top_k=TOP_K, window=2, floor=4.0))
    for index, value in ((0, 9.0), (1, 9.0), (2, 0.0), (2, 9.0), (3, 9.0)):
        report.add(index, reading(value))
    report.end_below_floor(3, lambda: "low")
    assert asked.to_finish is None
