"""`--token-budget`: prompts bid for shared tokens, and a stopped run keeps the unspent ones."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from eager_sgl import BestEntry, EagerInit
from eager_sgl.budget.tokens import TokenLedger
from eager_sgl.core import PromptResult
from eager_sgl.errors import AuthenticationError
from eager_sgl.search.priorities import find_priority
from evals import run
from evals.config.bidding import read_bids
from evals.execution import group_run
from evals.execution.calls import Call
from evals.tasks import find_task
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted, key_of, lines

NUM_PROMPTS, BUDGET, M, ROUND = 8, 50, 12, 10
SHARED = ("--methods", "best_first", "--limit", str(NUM_PROMPTS), "--max-sequences", str(M))


def arguments(folder: Path, *more: str) -> list[str]:
    return [*SHARED, "--token-budget", str(BUDGET), "--output-dir", str(folder), *more]


class Bidding:
    """A first sequence, then rounds of one while bids win; the utility of prompts differs.

    Args:
        stops_at: the round of all prompts together at which one of them raises.
    """

    def __init__(self, stops_at: int | None = None, error: BaseException | None = None) -> None:
        self.stops_at, self.error = stops_at, error or AuthenticationError("stopped")
        self.num_rounds = 0
        self.released = threading.Event()
        self.without: list[type] = []
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> PromptResult:
        bidder, num_sequences = call.method.bidder, 1
        if bidder is None:
            self.without.append(type(call.method))
        else:
            utility = sum(call.sample.id.encode()) % 7
            while num_sequences < call.account.granted:
                spent = ROUND * num_sequences
                if not bidder.offer(spent, float(utility), expected=ROUND).result():
                    break
                self._count()
                num_sequences += 1
            bidder.leave(ROUND * num_sequences)
        call.account.commit(num_sequences)
        texts, generated = ["no answer"] * num_sequences, ROUND * num_sequences
        return result(texts, generated=generated, max_sequences=call.method.max_sequences)

    def _count(self) -> None:
        with self._lock:
            self.num_rounds += 1
            if self.num_rounds == self.stops_at:
                raise self.error
        if self.stops_at is not None and self.num_rounds > self.stops_at:
            self.released.wait(30)


def spent_by(results: list[dict[str, Any]]) -> list[int]:
    return [line["counts"]["generated"] for line in results]


def test_prompts_share_their_tokens(tmp_path: Path, scripted: Scripted) -> None:
    scripted(Bidding())
    # One round at a time: with two, a slow thread lets others get further.
    assert run.main(arguments(tmp_path, "--concurrency", "1")) == 0
    results = lines(tmp_path)
    assert sum(spent_by(results)) == NUM_PROMPTS * BUDGET
    utility = {line["sample_id"]: sum(line["sample_id"].encode()) % 7 for line in results}
    ordered = sorted(results, key=lambda line: -utility[line["sample_id"]])
    assert len(ordered[0]["sequences"]) == M, "the best go on to the end"
    assert len(ordered[-1]["sequences"]) == 1, "nothing is left for the last"
    notes = " ".join(json.loads((tmp_path / "summary.json").read_text())["notes"])
    assert "shared 50 tokens per prompt by the uncertainty of their votes" in notes
    assert "ended early" not in notes


def assert_nobody_waits() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(30)
            assert not thread.is_alive(), "a prompt waits for tokens of a run that has ended"


@pytest.mark.parametrize("stops_at", [1, 5, 15, 25, 30])
@pytest.mark.parametrize("error", [AuthenticationError("stopped"), KeyboardInterrupt()])
def test_a_stopped_run_continues_with_the_tokens_that_are_left(
    tmp_path: Path, scripted: Scripted, stops_at: int, error: BaseException
) -> None:
    bidding = Bidding(stops_at, error)
    scripted(bidding)
    assert run.main(arguments(tmp_path)) != 0
    bidding.released.set()
    assert_nobody_waits()
    assert bidding.num_rounds <= stops_at + NUM_PROMPTS // 4, "what runs ends, no more begins"
    kept = (tmp_path / "results.jsonl").read_text()
    assert kept.count("\n") < NUM_PROMPTS
    scripted(Bidding())
    assert run.main(arguments(tmp_path)) == 0
    results = lines(tmp_path)
    assert (tmp_path / "results.jsonl").read_text().startswith(kept)
    assert len({key_of(line) for line in results}) == len(results) == NUM_PROMPTS
    assert sum(spent_by(results)) == NUM_PROMPTS * BUDGET


def test_a_run_that_stops_again_and_again_spends_no_more(
    tmp_path: Path, scripted: Scripted
) -> None:
    code, num_sessions = 1, 0
    while code != 0:
        before = lines(tmp_path) if num_sessions else []
        bidding = Bidding(stops_at=14)
        scripted(bidding)
        code = run.main(arguments(tmp_path))
        bidding.released.set()
        assert_nobody_waits()
        assert lines(tmp_path)[: len(before)] == before
        num_sessions += 1
        assert num_sessions < 20
    assert num_sessions > 1
    assert sum(spent_by(lines(tmp_path))) == NUM_PROMPTS * BUDGET


def test_every_seed_has_its_budget(tmp_path: Path, scripted: Scripted) -> None:
    scripted(Bidding())
    assert run.main(arguments(tmp_path, "--seeds", "0,1")) == 0
    for seed in (0, 1):
        of_cell = [line for line in lines(tmp_path) if line["seed"] == seed]
        assert sum(spent_by(of_cell)) == NUM_PROMPTS * BUDGET


def test_all_searches_share_and_nothing_else(tmp_path: Path, scripted: Scripted) -> None:
    bidding = Bidding()
    scripted(bidding)
    methods = ("--methods", "eager_init,best_first,swor,trie_parallel")
    assert run.main(arguments(tmp_path, *methods)) == 0
    assert set(bidding.without) == {EagerInit}
    for method in ("best_first", "swor", "trie_parallel"):
        of_cell = [line for line in lines(tmp_path) if line["method"] == method]
        assert sum(spent_by(of_cell)) == NUM_PROMPTS * BUDGET


def test_prompts_bid_by_their_answers(tmp_path: Path, scripted: Scripted) -> None:
    rules: dict[str, Any] = {}

    def generate(call: Call) -> PromptResult:
        assert call.method.bidder is not None
        rules[call.sample.id] = call.method.bidder.utility
        call.method.bidder.leave(10)
        call.account.commit(1)
        return result(["</think>01+01"], max_sequences=M)

    scripted(generate)
    assert run.main(arguments(tmp_path)) == 0
    assert len({id(rule) for rule in rules.values()}) == NUM_PROMPTS
    (rule, *_) = rules.values()
    agreed = result(["</think>01+02", "</think>03+00"]).sequences
    apart = result(["</think>01+02", "</think>01+01"]).sequences
    assert rule(None, apart) > rule(None, agreed)
    more = ("--bids", "frontier", "--priority", "joint_cost")
    assert run.main(arguments(tmp_path / "other", *more)) == 0
    assert [*rules.values()] == [BestEntry(find_priority("joint_cost"))] * NUM_PROMPTS


def test_every_prompt_is_judged_by_its_reference(tmp_path: Path, scripted: Scripted) -> None:
    def generate(call: Call) -> PromptResult:
        assert call.method.bidder is not None
        call.method.bidder.leave(10)
        call.account.commit(1)
        (left, right), target = call.sample.reference.numbers, call.sample.reference.target
        signs = {left + right: "+", left - right: "-", left * right: "*"}
        text = f"{left:02d}{signs[target]}{right:02d}" if target in signs else "none"
        return result([f"</think>{text}"], max_sequences=M)

    scripted(generate)
    assert run.main(arguments(tmp_path, "--levels", "1")) == 0
    results = lines(tmp_path)
    answers = [line["sequences"][0]["answer"] for line in results]
    assert len({*answers}) > NUM_PROMPTS // 2
    assert sum(line["sequences"][0]["correct"] for line in results) > NUM_PROMPTS // 2


def test_the_same_budget_by_other_bids_is_another_run(
    tmp_path: Path, scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(Bidding())
    assert run.main(arguments(tmp_path)) == 0
    assert run.main(arguments(tmp_path, "--bids", "frontier")) == 2
    assert "search.bids vote_uncertainty → frontier" in capsys.readouterr().err


def test_a_task_without_votes_bids_by_the_frontier() -> None:
    task = find_task("humaneval_plus")
    with pytest.raises(ValueError, match="humaneval_plus cannot agree, give --bids frontier"):
        read_bids(None, task, ["best_first"])
    assert read_bids("frontier", task, ["parallel", "best_first"]) == "frontier"


def test_a_run_that_shares_nothing_has_no_bids() -> None:
    def bids_of(*more: str) -> str | None:
        return run.parse_settings([*SHARED, *more], run.METHODS).stored().search.bids

    assert bids_of() is None
    assert bids_of("--token-budget", "9") == "vote_uncertainty"


def test_prompts_that_share_all_begin_at_any_concurrency(
    tmp_path: Path, scripted: Scripted
) -> None:
    scripted(Bidding())
    assert run.main(arguments(tmp_path, "--concurrency", "1")) == 0
    assert sum(spent_by(lines(tmp_path))) == NUM_PROMPTS * BUDGET


@pytest.mark.parametrize(
    ("limit", "concurrency", "max_running"), [(8, 32, 2), (12, 32, 3), (3, 32, 1), (12, 1, 1)]
)
def test_a_round_runs_for_every_four_prompts(
    tmp_path: Path,
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    concurrency: int,
    max_running: int,
) -> None:
    asked: list[int] = []

    def ledger(total: int, **given: int) -> TokenLedger:
        asked.append(given["max_running"])
        return TokenLedger(total, **given)

    monkeypatch.setattr(group_run, "TokenLedger", ledger)
    scripted(Bidding())
    more = ("--limit", str(limit), "--concurrency", str(concurrency))
    assert run.main(arguments(tmp_path, *more)) == 0
    assert asked == [max_running]


def test_another_budget_is_another_run(
    tmp_path: Path, scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(Bidding())
    assert run.main(arguments(tmp_path)) == 0
    assert run.main(arguments(tmp_path, "--token-budget", "60")) == 2
    assert "search.token_budget 50 → 60" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--token-budget", "0"), "--token-budget is 0; it must be at least 1"),
        (
            ("--token-budget", "9", "--methods", "parallel"),
            "--token-budget is of best_first, swor, trie_p",
        ),
        (("--token-budget", "9", "--max-sequences", "4,8"), "shared at one M; give --max-se"),
        (
            ("--bids", "vote_uncertainty"),
            "--bids is vote_uncertainty, but no tokens are shared; give a --token-budget",
        ),
        (
            ("--token-budget", "9", "--bids", "frontier", "--methods", "best_first,swor"),
            "--bids is frontier, but swor has no priority; give --methods best_first alone",
        ),
    ],
)
def test_a_wrong_budget_gets_one_sentence(
    capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit):
        run.parse_settings([*SHARED, *more], run.METHODS)
    assert said in capsys.readouterr().err
