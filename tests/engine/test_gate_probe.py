"""The probe of the gate: the plugin, a pickle if it is allowed, or the reason why there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eager_sgl import EagerConfig, EagerInit, SamplingConfig, SearchConfig, TrieParallel
from eager_sgl.engine.gate.choice import GateChoice
from eager_sgl.engine.gate.pickled import INFO_KEY
from eager_sgl.engine.gate.probe import GateFinding, find_gate
from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import RequestRejectedError, ServerUnsuitableError
from eager_sgl.plugin.blocks import pack_fault, pack_steps, pack_tokens
from eager_sgl.plugin.vocabulary import COLUMNS, KEY
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

ALLOWED: Json = {"enable_custom_logit_processor": True}
SAMPLING = SamplingConfig(max_new_tokens=9)


class SpoilingServer(ScriptedServer):
    """Changes the `meta_info` of its answers, and of all events."""

    def __init__(self, spoil: Callable[[Json], object], **options: Any) -> None:
        super().__init__(mixed_distribution(1), **options)
        self._spoil = spoil

    async def post(self, path: str, build: Any, *rest: Any, **options: Any) -> Any:
        decode, *others = rest

        def spoilt(answer: Json) -> Any:
            answer = copy.deepcopy(answer)
            self._spoil(answer["meta_info"])
            return decode(answer)

        return await super().post(path, build, spoilt, *others, **options)


def found(
    spoil: Callable[[Json], object] = lambda meta: None,
    choice: GateChoice = "auto",
    info: Json = ALLOWED,
    **options: Any,
) -> GateFinding:
    return run(find_gate(SpoilingServer(spoil, **options), info, (9,), choice))


def test_the_plugin_is_found() -> None:
    assert found(allows_gate=True) == ("plugin", None)


def test_a_processor_is_taken_if_it_is_allowed_and_there_is_no_plugin() -> None:
    assert found(allows_pickle=True, choice="pickle") == ("pickle", None)
    assert found(allows_gate=True, allows_pickle=True, choice="pickle") == ("plugin", None)
    assert found(allows_pickle=True) == (None, "it has no plugin; install eager_sgl beside it")
    assert found(choice="pickle", info={}).reason == (
        "it has no plugin; install eager_sgl beside it, and it was started without "
        "--enable-custom-logit-processor"
    )


def with_wrong_columns(meta: Json) -> None:
    wrong = dict.fromkeys(COLUMNS, np.full(64, 9.0, np.float32))
    steps = pack_steps(
        range(64), np.zeros((64, 2), np.int32), np.log(np.full((64, 2), 0.4, np.float32))
    )
    meta[KEY] = [steps, pack_tokens(0, wrong)]


def with_three_tokens(meta: Json) -> None:
    ids = np.zeros((1, 3), np.int32)
    meta[KEY][0] = pack_steps([0], ids, ids.astype(np.float32))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: meta[KEY].pop(),
        lambda meta: meta[KEY].pop(0),
        lambda meta: meta[KEY].insert(0, "none"),
        lambda meta: meta[KEY].append(meta[KEY][0]),
        with_three_tokens,
        with_wrong_columns,
        lambda meta: meta.update({"finish_reason": {"type": "abort", "message": "A"}, KEY: []}),
    ],
    ids=["less", "a step less", "no block", "twice", "shape", "other columns", "aborted"],
)
def test_a_plugin_that_reports_otherwise_is_no_gate(spoil: Callable[[Json], object]) -> None:
    finding = found(spoil, allows_gate=True)
    assert finding.form is None
    assert str(finding.reason).startswith(("its gate does not report", "it has no plugin"))


def test_the_fault_of_a_plugin_is_the_reason() -> None:
    finding = found(lambda meta: meta.update({KEY: [pack_fault("no such tensor")]}))
    assert finding.form is None
    assert "no such tensor" in str(finding.reason)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: meta.pop(INFO_KEY),
        lambda meta: meta[INFO_KEY].pop(),
        lambda meta: meta[INFO_KEY][0].pop(),
        lambda meta: meta[INFO_KEY][-1].__setitem__(0, 99),
        lambda meta: meta.update(
            {"finish_reason": {"type": "abort", "message": "Abort"}, INFO_KEY: []}
        ),
    ],
    ids=["none", "one less", "no logprobs", "no such step", "aborted"],
)
def test_a_processor_that_reports_otherwise_is_no_gate(spoil: Callable[[Json], object]) -> None:
    def spoil_reports(meta: Json) -> None:
        if INFO_KEY in meta:
            spoil(meta)

    finding = found(spoil_reports, choice="pickle", allows_pickle=True)
    assert finding.form is None
    assert str(finding.reason).startswith("its gate does not report the steps that reach θ")


def test_a_server_that_refuses_a_gates_requests_has_none() -> None:
    def refuse(meta: Json) -> None:
        raise RequestRejectedError("custom_params are unknown")

    assert "custom_params are unknown" in str(found(refuse).reason)


def pickles_of(server: ScriptedServer) -> list[Json]:
    return [request for request in server.requests if "custom_logit_processor" in request]


@pytest.mark.parametrize("allows_gate", [False, True])
def test_no_pickle_is_sent_unless_the_user_allows_it(allows_gate: bool) -> None:
    server = ScriptedServer(mixed_distribution(42), allows_gate=allows_gate, allows_pickle=True)
    fields: Any = {"top_k": VOCABULARY, "max_sequences": 4, "sampling": SAMPLING}
    methods = EagerInit(EagerConfig(threshold=0.5, **fields)), TrieParallel(SearchConfig(**fields))
    endpoint = endpoint_of(server)
    for method in methods:
        assert run_method(method, endpoint).monitor == ("gate" if allows_gate else "chunk")
    assert pickles_of(server) == []
    allowing = endpoint_of(server, gate="pickle")
    results = [run_method(method, allowing) for method in methods]
    assert bool(pickles_of(server)) != allows_gate
    assert [r.monitor for r in results] == ["gate", "gate" if allows_gate else "chunk"]


def test_searches_need_the_plugin() -> None:
    server = ScriptedServer(mixed_distribution(42), allows_pickle=True)
    search = TrieParallel(SearchConfig(monitor="gate", top_k=VOCABULARY, sampling=SAMPLING))
    with pytest.raises(ServerUnsuitableError, match="serves EAGer-init alone"):
        run_method(search, endpoint_of(server, gate="pickle"))
