"""Two stages and their budgets: the prompts that get extra sequences, and their result lines."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from eager_sgl import EagerInit
from eager_sgl.budget.sequences import Ledger
from eager_sgl.config import EagerConfig
from eager_sgl.core import DeferredBranch, PromptResult
from evals import run
from evals.execution import calls
from evals.execution.calls import Call
from evals.execution.stages import wall_seconds
from evals.records.record import PromptRecord, StageTwo
from evals.tasks import Sample
from tests.evals.fakes import sample_run
from tests.evals.fakes.build import BRANCH, record, result
from tests.evals.fakes.scripted_run import Scripted, in_thread, key_of, lines

THETA = 0.5
NOTHING = StageTwo("restart", False, 0, 0, THETA)


def tree(num_sequences: int, config: EagerConfig, **more: Any) -> PromptResult:
    return result(["no answer"] * num_sequences, max_sequences=config.max_sequences, **more)


def config_of(call: Call) -> EagerConfig:
    assert isinstance(call.method, EagerInit)
    return call.method.config


class Sizes:
    """The n-th prompt of the first stage takes the n-th size; records the second stages."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.asked: list[tuple[str, int, float]] = []
        self.known: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> PromptResult:
        sample, account, config = call.sample, call.account, config_of(call)
        with self._lock:
            is_first = sample.id not in self.known
            if is_first:
                self.known[sample.id] = self.sizes[len(self.known)]
            else:
                self.asked.append((sample.id, account.granted, config.threshold))
        taken = min(self.known[sample.id], account.granted)
        account.commit(taken)
        return tree(taken, config)


def arguments(folder: Path, method: str, num_prompts: int, *more: str) -> list[str]:
    swept = ("--methods", method, "--theta", str(THETA), "--limit", str(num_prompts))
    serial = ("--concurrency", "1", "--output-dir", str(folder))
    return [*swept, *serial, *more]


def of(folder: Path, method: str) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if line["method"] == method]


def test_adapt_gives_the_surplus_to_saturating_prompts(tmp_path: Path, scripted: Scripted) -> None:
    sizes = Sizes(1, 4, 2, 4)
    scripted(sizes)
    assert run.main(arguments(tmp_path, "eager_adapt", 4, "--max-sequences", "4")) == 0
    assert len(of(tmp_path, "eager_init")) == 4
    results = {line["sample_id"]: line["stage_two"] for line in of(tmp_path, "eager_adapt")}
    granted = [results[sample_id]["extra_granted"] for sample_id in sizes.known]
    assert granted == [0, 3, 0, 2]  # a surplus of 3 + 2, the remainder to the first
    assert [results[i]["eligible"] for i in sizes.known] == [False, True, False, True]
    assert {threshold for _, _, threshold in sizes.asked} == {THETA}


def test_eager_lowers_the_threshold_where_m_was_not_reached(
    tmp_path: Path, scripted: Scripted
) -> None:
    sizes = Sizes(1, 4)
    scripted(sizes)
    more = ("--max-sequences", "4", "--extra-cap", "1", "--threshold-factor", "0.5")
    assert run.main(arguments(tmp_path, "eager", 2, *more)) == 0
    first, second = sizes.known
    assert sorted(sizes.asked) == sorted([(first, 2, 0.5 * THETA), (second, 1, THETA)])
    results = {line["sample_id"]: line for line in of(tmp_path, "eager")}
    assert results[first]["threshold"] == results[second]["threshold"] == THETA
    assert results[first]["stage_two"] == {
        "mode": "restart",
        "eligible": True,
        "extra_granted": 2,
        "extra_used": 1,
        "threshold": 0.5 * THETA,
        "generated": 10,
    }


def test_a_line_of_two_stages_holds_both(tmp_path: Path, scripted: Scripted) -> None:
    sizes = Sizes(3, 1)
    scripted(sizes)
    assert run.main(arguments(tmp_path, "eager_adapt", 2, "--max-sequences", "3")) == 0
    saturated = next(iter(sizes.known))
    first = next(line for line in of(tmp_path, "eager_init") if line["sample_id"] == saturated)
    line = next(line for line in of(tmp_path, "eager_adapt") if line["sample_id"] == saturated)
    assert [s["stage"] for s in line["sequences"]] == [1, 1, 1, 2, 2]
    assert [s["parent"] for s in line["sequences"]] == [None, 0, 0, None, 3]
    assert line["sequences"][:3] == first["sequences"]
    assert line["counts"]["generated"] == 2 * first["counts"]["generated"]
    assert line["peak_entropy"] == first["peak_entropy"]
    assert line["seconds"] >= first["seconds"]
    copied = next(line for line in of(tmp_path, "eager_adapt") if line["sample_id"] != saturated)
    assert copied["stage_two"]["extra_granted"] == 0
    assert {s["stage"] for s in copied["sequences"]} == {1}


def test_resume_gets_the_tree_and_its_best_deferred_branches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Scripted
) -> None:
    deferred = tuple(DeferredBranch(index, BRANCH) for index in (1, 0, 1, 0, 1))
    seen = []

    def first(call: Call) -> PromptResult:
        size = 2 if not seen_first else 1
        seen_first.append(size)
        call.account.commit(size)
        assert config_of(call).deferred_threshold == THETA
        whole = tree(size, config_of(call))
        return PromptResult(**{**vars(whole), "deferred": deferred})

    def resume(call: Call, first_record: PromptRecord, thresholds: list[float]) -> PromptResult:
        seen.append(first_record.to_result())
        assert thresholds == [THETA]
        call.account.commit(1)
        return tree(1, config_of(call))

    seen_first: list[int] = []
    monkeypatch.setitem(calls.FIRST_STAGES, "eager_init", in_thread(first))
    monkeypatch.setitem(calls.SECOND_STAGES, "resume", in_thread(resume))
    more = ("--max-sequences", "2", "--stage-two", "resume", "--extra-cap", "1.5")
    assert run.main(arguments(tmp_path, "eager_adapt", 2, *more)) == 0
    (again,) = seen
    assert again.deferred == deferred[:3]  # no more than the cap could open
    assert [s.token_ids for s in again.sequences] == [
        s.token_ids for s in tree(2, _any()).sequences
    ]
    assert not any(line["deferred"] for line in of(tmp_path, "eager_adapt"))


def _any() -> EagerConfig:
    return EagerConfig(threshold=THETA, max_sequences=2)


def test_a_certain_second_stage_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Scripted
) -> None:
    """One prompt saturates, many leave a surplus: its grant is certain before the slowest ends."""
    second_begun = threading.Event()
    begun: list[str] = []
    lock = threading.Lock()

    def generate(call: Call) -> PromptResult:
        sample, account, config = call.sample, call.account, config_of(call)
        with lock:
            begun.append(sample.id)
            number = len(set(begun))
            is_second = begun.count(sample.id) > 1
        if is_second:
            second_begun.set()
        elif number == 1:
            assert second_begun.wait(20), "the second stage waited for the slowest prompt"
        size = account.granted if number == 2 or is_second else 1
        account.commit(size)
        return tree(size, config)

    scripted(generate)
    more = ("--max-sequences", "4", "--concurrency", "4", "--extra-cap", "1")
    assert run.main([*arguments(tmp_path, "eager_adapt", 9), *more]) == 0
    assert len(of(tmp_path, "eager_adapt")) == 9


@pytest.mark.usefixtures("scripted")
def test_a_sweep_runs_every_cell(tmp_path: Path) -> None:
    swept = ("--max-sequences", "1,2", "--theta", "0.5,0.9", "--temperature", "0.6,0.9")
    more = ("--seeds", "3,4", "--limit", "2", "--output-dir", str(tmp_path))
    assert run.main([*swept, *more]) == 0
    results = lines(tmp_path)
    assert len({key_of(line) for line in results}) == len(results) == 2 * 4 * (1 + 3 * 4)
    parallel = [line for line in results if line["method"] == "parallel"]
    assert {line["max_sequences"] for line in parallel} == {3}
    ids = {(line["seed"], line["sample_id"]) for line in results}
    assert {i for seed, i in ids if seed == 3} == {i for seed, i in ids if seed == 4}
    alone = [line for line in results if line["max_sequences"] == 1]
    assert {len(line["sequences"]) for line in alone} == {1}


def test_seconds_are_those_of_all_sessions_and_of_both_stages() -> None:
    plan = sample_run.plan(methods=("eager_adapt",), num_prompts=2)
    init, adapt = plan.cells
    records = [
        record([True], method="eager_init", session=0, elapsed=2.0),
        record([True], method="eager_init", sample_id="b", session=1, elapsed=1.0),
        record([True], method="eager_adapt", stage_two=NOTHING, session=1, elapsed=1.5),
        record(
            [True], method="eager_adapt", stage_two=NOTHING, sample_id="b", session=2, elapsed=4.0
        ),
    ]
    assert wall_seconds(records, plan) == {init: 3.0, adapt: 7.5}


def test_tries_continue_at_a_lower_theta_until_the_extra_sequences_exist(
    tmp_path: Path, scripted: Scripted
) -> None:
    sizes = Sizes(1, 1)
    scripted(sizes)
    more = ("--max-sequences", "4", "--extra-cap", "1", "--stage-two-tries", "10")
    assert run.main(arguments(tmp_path, "eager", 2, *more)) == 0
    granted = 3
    of_prompt = [asked for asked in sizes.asked if asked[0] == next(iter(sizes.known))]
    expected = [0.8, 0.8 * 0.8, 0.8 * 0.8 * 0.8 * 0.9]
    assert [threshold for _, _, threshold in of_prompt] == pytest.approx(
        [THETA * f for f in expected]
    )
    line = of(tmp_path, "eager")[0]
    assert line["stage_two"]["extra_used"] == granted
    assert [s["parent"] for s in line["sequences"]] == [None] * (1 + granted)
    assert line["stage_two"]["generated"] == 10 * granted


def accepts(sample: Any, text: str) -> bool:
    """A verifier that does not agree with the labels."""
    return text == "no answer"


def test_a_verifier_replaces_the_labels(tmp_path: Path, scripted: Scripted) -> None:
    scripted(Sizes(1, 1))
    more = ("--max-sequences", "4", "--verifier", f"{__name__}:accepts")
    assert run.main(arguments(tmp_path, "eager", 2, *more)) == 0
    assert [line["solved"] for line in of(tmp_path, "eager_init")] == [True, True]
    assert not any(line["stage_two"]["eligible"] for line in of(tmp_path, "eager"))


def test_both_second_stages_continue_the_same_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: Scripted
) -> None:
    scripted(Sizes(1, 4))

    def resume(call: Call, first: PromptRecord, thresholds: list[float]) -> PromptResult:
        assert config_of(call).deferred_threshold == pytest.approx(0.8 * THETA)
        call.account.commit(1)
        return tree(1, config_of(call))

    monkeypatch.setitem(calls.SECOND_STAGES, "resume", in_thread(resume))
    more = ("--max-sequences", "4", "--stage-two", "restart,resume")
    assert run.main(arguments(tmp_path, "eager", 2, *more)) == 0
    assert len(of(tmp_path, "eager_init")) == 2
    hows = [line["stage_two"]["mode"] for line in of(tmp_path, "eager")]
    assert sorted(hows) == ["restart", "restart", "resume", "resume"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [row["name"] for row in summary["rows"]] == ["eager_init", "eager", "eager+resume"]
    (contrast,) = summary["stage_two_contrasts"]
    assert contrast["num_extra"] == 2


class Resuming:
    """A client that is asked for deferred branches; two are left."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    async def resume(
        self,
        prompt: object,
        result: PromptResult,
        num_sequences: int,
        sampling: object,
        *,
        threshold: float,
        **more: object,
    ) -> PromptResult:
        self.asked = {"num_sequences": num_sequences, "threshold": threshold}
        return tree(2, _any())


def test_a_resumed_prompt_asks_for_its_grant_down_to_the_last_theta() -> None:
    ledger, client = Ledger(3), Resuming()
    with ledger.reserve(3) as account:
        call = Call(
            client=client,  # type: ignore[arg-type]
            sample=Sample("a", [], None, None),
            method=EagerInit(EagerConfig(threshold=THETA, max_sequences=3)),
            account=account,
            on_progress=lambda counts, alive: None,
        )
        first = record([False], method="eager_init")
        asyncio.run(calls.SECOND_STAGES["resume"](call, first, [0.5, 0.4]))
    assert client.asked == {"num_sequences": 3, "threshold": 0.4}
    assert (ledger.spent, ledger.free) == (2, 1)


def test_rules_have_their_caps_and_resume_keeps_the_branches_of_all() -> None:
    settings = run.parse_settings(
        ["--extra-cap", "eager=1,eager_adapt=3", "--stage-two", "resume", "--theta", "1.0"],
        run.METHODS,
    )
    caps = {name: rule.max_extra(16) for name, rule in settings.experiment.rules.items()}
    assert caps == {"eager": 16, "eager_adapt": 48}
    kept = {settings.experiment.config(cell).deferred_threshold for cell in settings.plan.cells}
    assert kept == {0.8}
    plain = run.parse_settings(["--theta", "1.0"], run.METHODS)
    assert plain.experiment.config(plain.plan.cells[1]).deferred_threshold is None
