"""`--replay`: recorded runs agree with the schedules, and changed records do not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eager_sgl import AsyncClient
from eager_sgl.search import best_first
from evals import run
from evals.execution import evaluation
from evals.execution.connection import Host, Server
from evals.report.page import plots
from tests.evals.fakes.scripted_run import lines
from tests.fakes.scripted import ScriptedServer, mixed_distribution

OPTIONS = (
    *("--limit", "6", "--max-sequences", "4", "--theta", "1.2", "--top-k", "5"),
    *("--temperature", "0.8", "--top-p", "0.8", "--max-new-tokens", "9", "--concurrency", "3"),
)
METHODS = "parallel,eager_init,eager_adapt,eager,best_first,swor,trie_parallel,vote"
CELL = ("method", "max_sequences", "threshold", "temperature", "seed", "sample_id")
Record = dict[str, Any]
Recorded = Callable[..., Path]
"""Options of a command line -> the folder of a run on a scripted server."""


class OnTransport(Host):
    """A running server whose requests a scripted one answers."""

    scripted: ScriptedServer

    def __init__(self, scripted: ScriptedServer) -> None:
        object.__setattr__(self, "scripted", scripted)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Server]:
        client = AsyncClient("http://scripted")
        client.transports = [self.scripted]
        async with client:
            yield Server(client, ("http://scripted",), lambda: None)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setattr(plots, "draw_plots", lambda data, folder: None)

    def record(*more: str, allows_gate: bool = False, model: int = 42) -> Path:
        scripted = ScriptedServer(mixed_distribution(model), allows_gate=allows_gate)

        @contextlib.contextmanager
        def hosted(*arguments: object) -> Iterator[Host]:
            yield OnTransport(scripted)

        monkeypatch.setattr(evaluation, "hosted", hosted)
        assert run.main([*OPTIONS, *more, "--output-dir", str(tmp_path)]) == 0
        monkeypatch.setattr(evaluation, "hosted", _refuse)
        return tmp_path

    return record


def _refuse(*arguments: object) -> None:
    raise AssertionError("a server was asked for")


def replay(folder: Path) -> int:
    return run.main(["--replay", "--output-dir", str(folder)])


@pytest.mark.parametrize(
    "options",
    [
        ("--methods", METHODS),
        ("--methods", METHODS, "--max-sequences", "5", "--stage-two", "restart,resume"),
        ("--methods", "eager_adapt,eager", "--max-sequences", "8", "--stage-two-tries", "3"),
        ("--methods", "eager_init", "--patience", "2", "--theta", "0.8"),
        ("--methods", "best_first", "--max-sequences", "8", "--max-tokens", "20"),
        ("--methods", "best_first,trie_parallel", "--stop", "consensus"),
        ("--methods", "best_first,trie_parallel,swor", "--stop", "unexplored:0.3"),
        ("--methods", "best_first,swor", "--token-budget", "12", "--width", "2"),
        ("--methods", "vote", "--vote-rule", "mode:0.3", "--max-sequences", "8"),
        ("--methods", "vote", "--vote-rule", "share:0.8", "--vote-unshared"),
    ],
)
@pytest.mark.parametrize(("model", "allows_gate"), [(42, False), (3, True)])
def test_a_recorded_run_agrees(
    recorded: Recorded,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    model: int,
    allows_gate: bool,
) -> None:
    folder = recorded(*options, model=model, allows_gate=allows_gate)
    capsys.readouterr()
    assert replay(folder) == 0
    output = capsys.readouterr()
    assert output.err == ""
    cells = {(r["method"], r["stage_two"] and r["stage_two"]["mode"]) for r in lines(folder)}
    assert output.out.count(": 6 prompts replayed, 6 agree") == len(cells)


@pytest.mark.parametrize(
    "priority", ["joint_cost", "early_peaks", "entropy", "novel_flat_joint_cost", "self_certainty"]
)
def test_every_kind_of_priority_agrees(recorded: Recorded, priority: str) -> None:
    options = ("--methods", "best_first", "--priority", priority, "--max-sequences", "8")
    assert replay(recorded(*options)) == 0


@pytest.mark.parametrize("allows_gate", [False, True])
def test_branches_of_running_sequences_agree(
    recorded: Recorded, allows_gate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_first, "MIN_TICK", 2)
    options = ("--methods", "best_first", "--max-sequences", "12", "--width", "3")
    assert replay(recorded(*options, allows_gate=allows_gate)) == 0


def test_an_adaptive_threshold_is_that_of_the_record(recorded: Recorded) -> None:
    folder = recorded("--methods", "eager_init", "--theta", "auto", "--limit", "14")
    assert any(line["journal"]["untaken"] or len(line["sequences"]) > 1 for line in lines(folder))
    assert replay(folder) == 0


def later_branch(line: Record) -> None:
    _branched(line)["branch"]["position"] += 1


def earlier_branch(line: Record) -> None:
    _branched(line, lowest=1)["branch"]["position"] -= 1


def other_token(line: Record) -> None:
    """Of the new sequence, in its tokens and in its branch point."""
    sequence = _branched(line)
    branch, token_ids = sequence["branch"], sequence["token_ids"]
    other = next(t for t in range(1, 5) if t not in branch["token_ids"])
    branch["token_ids"][1] = token_ids[branch["position"]] = other


def other_draw(line: Record) -> None:
    """A token of the first sequence before its first branch."""
    line["sequences"][0]["token_ids"][0] ^= 1


def other_parent(line: Record) -> None:
    sequence = _branched(line, from_index=2)
    sequence["parent"] = 1 - min(sequence["parent"], 1)


def no_last_sequence(line: Record) -> None:
    line["sequences"].pop()
    if line["journal"]:
        del line["journal"]["steps"][len(line["sequences"]) :]


def one_more_sequence(line: Record) -> None:
    """The last one again."""
    line["sequences"].append(line["sequences"][-1])
    if line["journal"]:
        line["journal"]["steps"] += line["journal"]["steps"][-1:]


def low_entropy(line: Record) -> None:
    _branched(line)["branch"]["entropy"] = 1.1


def untaken_peak(line: Record) -> None:
    """A step of the first sequence before the last branch of the tree."""
    branches = {s["branch"]["position"] for s in line["sequences"] if s["branch"]}
    last = min(max(branches, default=0), len(line["sequences"][0]["token_ids"]))
    line["journal"]["untaken"] += [[0, i, 1.5] for i in range(last) if i not in branches][:1]


def other_priority(line: Record) -> None:
    _branched(line)["branch"]["priority"] += 1e-9


def other_evidence(line: Record) -> None:
    """The steps of the first sequence are those of another."""
    first, other = (next(s for s in line["journal"]["steps"][i:] if s) for i in (0, 1))
    assert first != other
    line["journal"]["steps"][0] = other


def _branched(line: Record, lowest: int = 0, from_index: int = 1) -> Record:
    sequences: list[Record] = line["sequences"][from_index:]
    return next(s for s in sequences if s["branch"] and s["branch"]["position"] >= lowest)


TREES = [later_branch, earlier_branch, other_token, other_parent, no_last_sequence]
COUNTS = [other_draw, one_more_sequence]
CHANGES = [
    *(("parallel", change) for change in (no_last_sequence, one_more_sequence)),
    *(("eager_init", change) for change in (*TREES, *COUNTS, low_entropy, untaken_peak)),
    *(("best_first", change) for change in (*TREES, *COUNTS, other_priority, other_evidence)),
    *(("swor", change) for change in (*TREES, *COUNTS)),
    *((name, change) for name in ("trie_parallel", "vote") for change in (*TREES, *COUNTS)),
    *(("eager", change) for change in (no_last_sequence, one_more_sequence)),
]


def edit(folder: Path, method: str, change: Callable[[Record], None]) -> str:
    """Change the first line of a method that has what is changed; its sample id."""
    results = lines(folder)
    for line in results:
        if line["method"] == method and _has_changed(line, change):
            (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))
            return str(line["sample_id"])
    raise AssertionError(f"nothing to change in {method}")


def _has_changed(line: Record, change: Callable[[Record], None]) -> bool:
    before = json.dumps(line)
    with contextlib.suppress(StopIteration):
        change(line)
    return json.dumps(line) != before


@pytest.mark.parametrize(("method", "change"), CHANGES)
def test_a_changed_record_disagrees_and_is_named(
    recorded: Recorded,
    capsys: pytest.CaptureFixture[str],
    method: str,
    change: Callable[[Record], None],
) -> None:
    folder = recorded("--methods", method, "--max-sequences", "5")
    sample_id = edit(folder, method, change)
    capsys.readouterr()
    assert replay(folder) == 3
    output = capsys.readouterr()
    assert f"{method}: 6 prompts replayed, 5 agree" in output.out
    assert f"  prompt '{sample_id}': " in output.out
    assert output.err == "error: 1 results disagree with their replay\n"


@pytest.mark.parametrize("mode", ["restart", "resume"])
def test_every_missing_last_sequence_of_a_second_stage_disagrees(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    """Also of one whose steps the journal has."""
    folder = recorded("--methods", "eager", "--max-sequences", "5", "--stage-two", mode)
    results = lines(folder)
    shortened = [line for line in results if line["method"] == "eager" and _has_extra(line)]
    for line in shortened:
        line["sequences"].pop()
    (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))
    capsys.readouterr()
    assert shortened
    assert replay(folder) == 3
    output = capsys.readouterr()
    assert f": 6 prompts replayed, {6 - len(shortened)} agree" in output.out
    assert output.err == f"error: {len(shortened)} results disagree with their replay\n"


def _has_extra(line: Record) -> bool:
    return bool(line["stage_two"]["extra_used"])


def test_lines_that_are_no_results_do_not_pass(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded("--methods", "eager_init")
    results = lines(folder)
    results[0]["sequences"] = []
    (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))
    capsys.readouterr()
    assert replay(folder) == 3
    output = capsys.readouterr()
    assert "warning: left out line 1 (no sequence)" in output.out
    assert output.err == "error: 1 lines cannot be read\n"


@pytest.mark.parametrize("method", ["trie_parallel", "vote"])
def test_samples_that_the_server_drew_beyond_the_k_are_reported(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    folder = recorded("--methods", method, "--top-k", "3", "--theta", "0.9", "--top-p", "1")
    capsys.readouterr()
    assert replay(folder) == 3
    output = capsys.readouterr()
    assert "the server may have drawn tokens that the tree does not know" in output.out
    assert "disagree" not in output.err


@pytest.mark.parametrize(
    ("field", "value"), [("extra_granted", 5), ("threshold", 0.01), ("eligible", False)]
)
def test_another_grant_than_the_rule_gives_disagrees(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], field: str, value: float
) -> None:
    def regrant(line: Record) -> None:
        if line["stage_two"]["extra_granted"]:
            line["stage_two"][field] = value

    folder = recorded("--methods", "eager", "--max-sequences", "5")
    sample_id = edit(folder, "eager", regrant)
    capsys.readouterr()
    assert replay(folder) == 3
    assert f"prompt '{sample_id}': the rule grants" in capsys.readouterr().out


def test_another_deferred_branch_disagrees(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(line: Record) -> None:
        if len(line["deferred"]) > 1:
            del line["deferred"][0]

    folder = recorded("--methods", "eager_adapt", "--stage-two", "resume", "--max-sequences", "2")
    edit(folder, "eager_init", lose)
    assert replay(folder) == 3
    assert "deferred branch 0 is" in capsys.readouterr().out


def test_results_without_a_journal_do_not_pass(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded("--methods", "parallel,eager_init,best_first")
    results = [{k: v for k, v in line.items() if k != "journal"} for line in lines(folder)]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in results))
    capsys.readouterr()
    assert replay(folder) == 3
    output = capsys.readouterr()
    assert "parallel: 6 prompts replayed, 6 agree" in output.out
    for method in ("eager_init", "best_first"):
        assert f"{method}: 6 prompts cannot be replayed: " in output.out
    assert output.err == "error: 12 results cannot be replayed\n"


def test_grants_beside_failed_prompts_are_not_replayed(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded("--methods", "eager_adapt")
    first = next(line for line in lines(folder) if line["method"] == "eager_init")
    cell = {name: first[name] for name in CELL}
    failure = {"stage_two": None, "line": None, "stage": 1, "error": "ServerError"} | cell
    failure |= {"reason": "gone", "generated": 0, "traceback": None, "session": 0}
    (folder / "failures.jsonl").write_text(json.dumps(failure) + "\n")
    assert replay(folder) == 3
    output = capsys.readouterr().out
    assert "eager_init: 6 prompts replayed, 6 agree" in output
    assert "eager_adapt: 6 prompts cannot be replayed: grants depended on" in output


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_replay_does_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run.main(["--replay", "--regrade", "--output-dir", str(tmp_path)])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: --regrade and --replay are mutually exclusive\n"


def test_a_vote_with_probes_is_not_replayed(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = ("--vote-probe", "</think>", "--vote-probe-interval", "2")
    folder = recorded("--methods", "vote", *probes)
    assert replay(folder) == 3
    assert "6 prompts cannot be replayed: probes may have ended" in capsys.readouterr().out


@pytest.mark.parametrize(
    "parts", [("--vote-cut", "0.5:2:3"), ("--vote-weights", "lowest:2", "--vote-rule", "share:0.7")]
)
def test_a_vote_by_values_of_tokens_is_not_replayed(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], parts: tuple[str, ...]
) -> None:
    folder = recorded("--methods", "vote", "--max-sequences", "6", *parts, allows_gate=True)
    weights = [s["weight"] for line in lines(folder) for s in line["sequences"]]
    assert any(weight is not None for weight in weights)
    assert replay(folder) == 3
    assert "6 prompts cannot be replayed: their votes depended on" in capsys.readouterr().out
