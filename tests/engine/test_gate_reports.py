"""The gate's reports become fields of an answer, each block read once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eager_sgl.config import SamplingConfig
from eager_sgl.core import FinishReason, Generation
from eager_sgl.engine.gate.pickled import INFO_KEY, PickledReports, can_serve, pickled_params
from eager_sgl.engine.gate.reports import PluginReports
from eager_sgl.engine.requests import Request, RequestHandle, Submission
from eager_sgl.engine.shapes import ShapeError
from eager_sgl.errors import ServerError
from eager_sgl.plugin import blocks
from eager_sgl.plugin.blocks import pack_cut, pack_fault, pack_steps, pack_tokens
from eager_sgl.plugin.vocabulary import KEY, Gate
from eager_sgl.policy import EntropyThreshold
from eager_sgl.tree import TokenTree

TAU = 0.6
GATE = Gate(top_k=2, threshold=1.0, columns=("raw_logprobs", "entropies"))


def answer(
    number: int, reason: FinishReason | None = None, interrupted: str | None = None
) -> Generation:
    return Generation(tuple(range(number)), reason, 5, 4, interrupted=interrupted)


def steps(*indices: int) -> str:
    ids = np.array([[index, index + 1] for index in indices], np.int32)
    return pack_steps(indices, ids, np.full((len(indices), 2), -0.7, np.float32))


def tokens(first: int, number: int) -> str:
    values = np.arange(first, first + number, dtype=np.float32)
    return pack_tokens(first, {"raw_logprobs": -values, "entropies": values})


def test_an_event_holds_the_reports_so_far() -> None:
    reader = PluginReports(GATE, TAU)
    first = reader.add_to(answer(2), {KEY: [None, tokens(0, 2), steps(1)]})
    event = reader.add_to(answer(3), {KEY: [None, tokens(0, 2), steps(1), None, tokens(2, 1)]})
    assert (first.reported, event.reported) == ((1,), (1,))
    assert event.top is not None
    assert event.top.token_ids.tolist() == [[1, 2]]
    assert event.top.temperature == TAU
    assert event.entropies is not None
    assert event.raw_logprobs is not None
    assert event.entropies.tolist() == [0, 1, 2]
    assert event.raw_logprobs.tolist() == [0, -1, -2]
    assert (event.logprobs, event.confidences, event.num_dropped) == (None, None, 0)
    assert event.after(2).entropies is not None
    assert event.after(2).entropies.tolist() == [2]  # type: ignore[union-attr]


def test_greedy_reports_are_at_temperature_1() -> None:
    event = PluginReports(Gate(top_k=2, threshold=1.0), 0.0).add_to(answer(2), {KEY: [steps(1)]})
    assert event.top is not None
    assert event.top.temperature == 1.0


def test_a_gate_with_a_seed_alone_observes_no_steps() -> None:
    event = PluginReports(Gate(seed=1), TAU).add_to(answer(2), {KEY: []})
    assert (event.reported, event.top) == (None, None)
    silent = PluginReports(Gate(top_k=2, threshold=1.0), TAU).add_to(answer(2), {KEY: []})
    assert silent.reported == ()


def test_a_block_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    opened = blocks._opened

    def counted(block: object) -> Any:
        read.append(block)
        return opened(block)

    monkeypatch.setattr(blocks, "_opened", counted)
    reader, sent = PluginReports(GATE, TAU), list[str]()
    for number in range(1, 40):
        sent = [*sent, tokens(number - 1, 1)]
        reader.add_to(answer(number), {KEY: sent})
    assert len(read) == 39


def test_a_new_try_of_a_request_is_read_from_its_start() -> None:
    request = Request((9,), 4, SamplingConfig(), gate=GATE)
    submission = Submission(request, "tempered", RequestHandle(), lambda generation: None)
    body: Any = {"output_ids": [1, 2], "meta_info": {"finish_reason": {"type": "length"}}}
    for _ in range(2):
        submission.build()
        whole = submission.read(body | {"meta_info": body["meta_info"] | {KEY: [tokens(0, 2)]}})
        assert whole.entropies is not None
        assert whole.entropies.tolist() == [0, 1]


THREE_TOKENS = pack_steps([0], np.zeros((1, 3), np.int32), np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    "sent",
    [
        [tokens(0, 3)],
        [tokens(0, 1)],
        [],
        [tokens(0, 2), steps(2)],
        [tokens(0, 2), THREE_TOKENS, steps(1)],
        ["?"],
        [3],
        "no list",
    ],
    ids=["more", "less", "none", "no such step", "two shapes", "base64", "a number", "a text"],
)
def test_reports_of_another_form_are_refused(sent: Any) -> None:
    with pytest.raises(ShapeError, match="gate|'eager'"):
        PluginReports(GATE, TAU).add_to(answer(2, "stop"), {KEY: sent})


def test_a_fault_ends_the_request_with_its_reason() -> None:
    with pytest.raises(ServerError, match="switched the gate off for a request: no memory"):
        PluginReports(GATE, TAU).add_to(answer(2), {KEY: [tokens(0, 2), pack_fault("no memory")]})


@pytest.mark.parametrize("gate", [Gate(top_k=2, threshold=1.0), Gate(seed=1), GATE])
def test_an_answer_of_a_replica_without_the_plugin_is_no_answer_without_reports(gate: Gate) -> None:
    """A router may have replicas of both kinds behind it; the probe has seen a single one."""
    for reason in (None, "stop"):
        with pytest.raises(ServerError, match="no plugin; install eager_sgl beside every replica"):
            PluginReports(gate, TAU).add_to(answer(2, reason), {})


def test_an_interrupted_answer_ends_where_its_reports_do() -> None:
    """SGLang answers the abort of a waiting request without them; the rest is requested anew."""
    reader = PluginReports(GATE, TAU)
    reader.add_to(answer(2), {KEY: [tokens(0, 2), steps(1)]})
    end = reader.add_to(answer(5, interrupted="aborted"), {})
    assert (end.token_ids, end.num_dropped, end.reported) == ((0, 1), 3, (1,))
    tree = TokenTree((9,), max_new_tokens=9, policy=EntropyThreshold(0.5))
    tree.append(tree.open_root(), end, 9)
    assert tree.spent.generated == 5


def test_a_cut_ends_the_sequence_and_the_tokens_after_it_are_counted() -> None:
    gate = Gate(top_k=2, floor=1.0, columns=("confidences",))
    values = np.ones(4, np.float32)
    sent = [pack_tokens(0, {"confidences": values}), pack_cut(1, 0.5)]
    reader = PluginReports(gate, TAU)
    event, end = (reader.add_to(answer(4, reason), {KEY: sent}) for reason in (None, "stop"))
    assert (event.finish_reason, end.finish_reason) == (None, "cut")
    assert (end.token_ids, end.num_dropped, end.num_decoded) == ((0, 1), 2, 4)
    assert end.confidences is not None
    assert end.confidences.tolist() == [1, 1]
    tree = TokenTree((9,), max_new_tokens=9)
    root = tree.open_root()
    for part in (event, end):
        tree.append(root, part, 9, start=0)
    assert (root.token_ids.tolist(), root.finish_reason) == ([0, 1], "cut")
    counts = tree.counts([root])
    assert (counts.generated, counts.unique, counts.discarded) == (4, 2, 2)


@pytest.mark.parametrize("num_tokens", [2, 4])
def test_a_stream_that_breaks_after_a_cut_ends_the_sequence(num_tokens: int) -> None:
    """The server reports a cut before it ends the request; nothing is requested after it."""
    gate = Gate(top_k=2, floor=1.0)
    part = PluginReports(gate, TAU).add_to(answer(num_tokens), {KEY: [pack_cut(1, 0.5)]})
    assert (part.is_over, part.is_cut) == (False, True)
    for has_part in (False, True):
        tree = TokenTree((9,), max_new_tokens=9)
        root = tree.open_root()
        if has_part:
            tree.append(root, part, 9)
            assert root.finish_reason is None
        tree.append(root, replace(part, interrupted="the connection was lost"), 9, start=0)
        assert (root.token_ids.tolist(), root.finish_reason) == ([0, 1], "cut")
        assert tree.spent.generated == num_tokens


def test_a_cut_that_is_not_reached_ends_nothing() -> None:
    """An answer to an abort may have fewer tokens than the reports before it."""
    end = PluginReports(Gate(top_k=2, floor=1.0), TAU).add_to(
        answer(1, interrupted="aborted"), {KEY: [pack_cut(1, 0.5)]}
    )
    assert (end.is_cut, end.finish_reason, end.interrupted) == (False, None, "aborted")


def test_a_stop_token_at_the_cut_ends_the_sequence_by_itself() -> None:
    end = PluginReports(Gate(top_k=2, floor=1.0), TAU).add_to(
        answer(2, "stop"), {KEY: [pack_cut(1, 0.5)]}
    )
    assert (end.is_cut, end.finish_reason) == (False, "stop")


def test_a_processor_serves_thresholds_alone() -> None:
    gate = Gate(top_k=7, threshold=1.5, temperature=0.6, max_reports=3)
    assert can_serve(gate)
    assert pickled_params(gate) == {
        "eager_theta": 1.5,
        "eager_k": 7,
        "eager_temperature": 0.6,
        "eager_max_reports": 3,
    }
    assert not can_serve(Gate(stored_below=0.5))
    assert not can_serve(Gate(threshold=1.0, columns=("logprobs",)))
    assert not can_serve(Gate(threshold=1.0, seed=1))


def test_a_processors_reports_are_at_temperature_1() -> None:
    reported = [None, [0, [8, 3], [-0.5, -1.0]], [1, [3, 8], [-0.1, -1e9]]]
    event = PickledReports(2).add_to(answer(2), {INFO_KEY: reported})
    assert event.reported == (0, 1)
    assert event.top is not None
    assert event.top.token_ids.tolist() == [[8, 3], [3, 8]]
    assert event.top.logprobs.tolist() == [[-0.5, -1.0], [pytest.approx(-0.1), -1e9]]
    assert event.top.temperature == 1.0
    silent = PickledReports(2).add_to(answer(2), {})
    assert silent.top is not None
    assert (silent.reported, silent.top.token_ids.shape) == ((), (0, 2))


@pytest.mark.parametrize(
    "sent", [5, "no list", [[0, [8]]], [[0, [2**40, 3], [-0.5, -1.0]]], [[9, [8, 3], [-1, -2]]]]
)
def test_a_processors_reports_of_another_form_are_refused(sent: Any) -> None:
    with pytest.raises(ShapeError, match=f"'{INFO_KEY}'|the gate reports"):
        PickledReports(2).add_to(answer(2), {INFO_KEY: sent})
