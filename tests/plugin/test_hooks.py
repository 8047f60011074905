"""The hooks on SGLang's functions, without it: what is refused, and faults of single requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eager_sgl.plugin import hooks
from eager_sgl.plugin.blocks import unpack
from eager_sgl.plugin.signals import NUM_VALUES
from eager_sgl.plugin.vocabulary import COLUMNS, KEY, Gate
from tests.plugin.fakes import TOP_K, Request, opened, params, reading, report_of


def sent(request: Request, stop: int) -> Any:
    return unpack(request.customized_info[KEY][0:stop], TOP_K)


ASKED = Gate(top_k=TOP_K, threshold=1.0).custom_params()


def test_tokens_that_another_function_draws_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hooks.check_params(None, params(custom_params=ASKED))
    with pytest.raises(ValueError, match="beam_width is 4"):
        hooks.check_params(None, params(custom_params=ASKED, beam_width=4))
    hooks.check_params(None, params(beam_width=4))
    monkeypatch.setattr(hooks, "_speculative_algorithm", lambda: "EAGLE")
    with pytest.raises(ValueError, match=r"drawn speculatively \(EAGLE\)"):
        hooks.check_params(None, params(custom_params=ASKED))
    hooks.check_params(None, params())
    hooks.check_params(None, params(custom_params={"another": 1}))


def test_a_request_id_that_carries_a_gate_is_refused_by_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its parameters pass no check before the scheduler, which has to go on."""
    monkeypatch.setattr(hooks, "_speculative_algorithm", lambda: "EAGLE")
    request = opened(params(), 'eager-1?{"custom_params":{"eager":{"threshold":1.0}}}')
    assert "speculatively" in sent(request, 1).fault


def test_requests_that_ask_for_nothing_have_no_report() -> None:
    for rid in ("1", "eager-1", "a?{}"):
        assert opened(params(custom_params={"another": 1}), rid).customized_info is None


def test_a_fault_of_a_request_leaves_the_others_of_its_step() -> None:
    """The step is recorded when any of its requests is sent."""
    broken, sound = (opened(params(custom_params=ASKED)) for _ in range(2))
    report_of(broken)._steps = None  # type: ignore[assignment]
    table = torch.ones(2, NUM_VALUES + 2 * TOP_K)  # every step reaches the threshold
    hooks._steps.append(hooks._Step([(report_of(broken), 0), (report_of(sound), 0)], table))
    assert sent(sound, 1).indices.tolist() == [0]
    assert sent(sound, 1).fault is None
    assert "has no attribute" in sent(broken, 1).fault


def recorded(*rows: tuple[Request, int, float, int]) -> None:
    """A step: requests, the indices of their tokens, their values and flags."""
    table = torch.from_numpy(np.stack([reading(value, flags) for _, _, value, flags in rows]))
    hooks._steps.append(hooks._Step([(report_of(r), index) for r, index, _, _ in rows], table))
    hooks.record_steps()


def test_every_request_keeps_its_own_row_of_a_step() -> None:
    gate = Gate(top_k=TOP_K, stored_below=0.9, columns=COLUMNS).custom_params()
    first, second = (opened(params(custom_params=gate)) for _ in range(2))
    recorded((first, 0, 1.0, 0), (second, 0, 2.0, 2))
    recorded((first, 1, 3.0, 0), (second, 1, 4.0, 0))
    recorded((second, 2, 6.0, 0), (first, 2, 5.0, 2))
    for request, values, indices in ((first, [1, 3, 5], [2]), (second, [2, 4, 6], [0])):
        reports = sent(request, 3)
        assert all(column.tolist() == values for column in reports.columns.values())
        assert set(reports.columns) == set(COLUMNS)
        assert reports.indices.tolist() == indices
        assert report_of(request).values == {}


def test_a_step_that_is_drawn_again_without_a_flag_is_not_reported() -> None:
    gate = Gate(top_k=TOP_K, stored_below=0.9, columns=("logprobs",)).custom_params()
    request = opened(params(custom_params=gate))
    for index, value, flags in ((0, 1, 2), (1, 2, 2), (1, 3, 0), (2, 4, 0), (2, 5, 2)):
        recorded((request, index, value, flags))
    reports = sent(request, 3)
    assert reports.indices.tolist() == [0, 2]
    assert reports.columns["logprobs"].tolist() == [1, 3, 5]
    recorded((request, 1, 9, 0))  # it has been sent
    assert report_of(request).values == {}


def test_reports_end_with_their_requests() -> None:
    """A step that overlaps the end of its requests must not keep their reports."""
    before = len(hooks._live)
    request = opened(params(custom_params=ASKED))
    table = torch.zeros(1, NUM_VALUES + 2 * TOP_K)
    hooks._steps.append(hooks._Step([(report_of(request), 0)], table))
    assert len(hooks._live) == before + 1
    del request
    hooks.attach_reports(SimpleNamespace(), object, SimpleNamespace(reqs=[]))
    assert len(hooks._live) == before


def test_a_seed_and_a_grammar_exclude_each_other() -> None:
    asked = Gate(seed=1).custom_params()
    hooks.check_params(None, params(custom_params=asked))
    with pytest.raises(ValueError, match="seed and a grammar"):
        hooks.check_params(None, params(custom_params=asked, regex="[0-9]"))


def test_padding_of_other_requests_is_left_out() -> None:
    kept: list[Any] = []

    def accumulate(meta: Any, state: Any, key: str, values: Any) -> None:
        kept.append((key, values))

    for key, values in ((KEY, [None, None]), (KEY, []), (KEY, ["block"]), ("other", [None])):
        hooks.leave_padding_out(accumulate, {}, None, key, values)
    assert kept == [(KEY, []), (KEY, ["block"]), ("other", [None])]
