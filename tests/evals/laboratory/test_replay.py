"""`evals/replay.py` on the folders of runs."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals import replay
from evals.analysis.metrics import majority_at_k
from evals.records.columns import TokenColumns, pack_columns
from evals.records.files import to_line
from evals.records.header import write_header
from evals.records.record import PromptRecord, SequenceRecord
from tests.evals.fakes import sample_run
from tests.evals.fakes.build import record

M = 8
NUM_PROMPTS = 12


def recorded_sequence(rng: random.Random, vote: int | None, *, correct: bool) -> SequenceRecord:
    tokens = tuple(rng.choices((3, 4), k=rng.randint(4, 12)))
    values = np.array([rng.uniform(1, 9) for _ in tokens])
    return SequenceRecord(
        text="",
        token_ids=tokens,
        finish_reason="stop",
        parent=None,
        branch=None,
        answer=None if vote is None else f"answer {vote}",
        correct=correct,
        explanation="",
        vote=vote,
        raw_logprob=-rng.uniform(0, 20),
        columns=pack_columns(TokenColumns(values, values, values)),
    )


def parallel_record(sample_id: str, temperature: float, seed: int, **more: Any) -> PromptRecord:
    """M sequences whose votes are for the first, the second, or no answer; the first is right."""
    rng = random.Random(repr((sample_id, temperature, seed)))
    votes = [0, 1, *(rng.choice([0, 0, 1, None]) for _ in range(M - 2))]
    sequences = [recorded_sequence(rng, vote, correct=vote == 0) for vote in votes]
    fields = {"temperature": temperature, "seed": seed, "max_sequences": M, "level": 1} | more
    return record([], sample_id=sample_id, sequences=tuple(sequences), **fields)


def write_run(folder: Path, seeds: tuple[int, ...] = (0,), task: str = "countdown") -> Path:
    plan = sample_run.plan(
        methods=("parallel",),
        max_sequences=(M,),
        temperatures=(0.6, 1.0),
        seeds=seeds,
        num_prompts=NUM_PROMPTS,
    )
    folder.mkdir(parents=True)
    header = sample_run.header(plan)
    write_header(folder, replace(header, config=replace(header.config, task=task)))
    records = [
        parallel_record(f"prompt-{number}", cell.temperature, cell.seed)
        for cell in plan.cells
        for number in range(NUM_PROMPTS)
    ]
    lines = [to_line(record.to_json()) for record in records]
    (folder / "results.jsonl").write_text("".join(lines))
    return folder


RULES = "parallel:3,beta:0.8+weights:probability+trie,cut:0.5:4:3,shared:0.3"


def played(*arguments: str, tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "figures.json"
    assert replay.main([*arguments, "--resamples", "40", "--json", str(path)]) == 0
    tasks: list[dict[str, Any]] = json.loads(path.read_text())["tasks"]
    return tasks


def test_all_rules_are_shown_at_all_temperatures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    (task,) = played(str(run), "--rules", RULES, tmp_path=tmp_path)
    said = capsys.readouterr().out
    assert f"countdown: {NUM_PROMPTS} prompts, M = {M}, 40 orders of each" in said
    assert "votes that cutting changed" in said
    assert [f["rule"] for f in task["figures"]] == ["parallel", *RULES.split(",")] * 2
    lines = [line.split() for line in said.splitlines() if line.startswith("parallel ")]
    assert [line.count("–") for line in lines] == [2, 0], "the reference is not compared"
    first = task["figures"][0]
    assert (first["difference"], first["share"], first["sequences"]) == (0, 1, M)
    assert {f["temperature"] for f in task["figures"]} == {0.6, 1.0}
    for figures in task["figures"]:
        assert figures["rule"] in said
        assert (figures["cut"] is not None) == figures["rule"].startswith("cut")
        low, high = figures["accuracy_interval"]
        assert low <= figures["accuracy"] <= high
    budget = next(f for f in task["figures"] if f["rule"] == "shared:0.3")
    assert budget["share"] <= 0.31 or budget["temperature"] != first["temperature"]


def test_a_majority_of_m_is_the_expectation_over_subsets(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = tmp_path / "figures.json"
    command = [str(run), "--rules", "parallel:3", "--resamples", "3000", "--json", str(path)]
    assert replay.main(command) == 0
    figures = json.loads(path.read_text())["tasks"][0]["figures"]
    for temperature in (0.6, 1.0):
        records = [parallel_record(f"prompt-{n}", temperature, 0) for n in range(NUM_PROMPTS)]
        expected = np.mean([majority_at_k(r.votes, r.correct, 3) for r in records])
        (found,) = (
            f["accuracy"]
            for f in figures
            if f["rule"] == "parallel:3" and f["temperature"] == temperature
        )
        assert found == pytest.approx(expected, abs=0.01)


def test_rules_are_chosen_on_one_half_and_shown_on_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    rules = f"{RULES},parallel:2/4/6"
    (task,) = played(str(run), "--rules", rules, "--split", tmp_path=tmp_path)
    assert task["num_prompts"] == task["num_choosing"] == NUM_PROMPTS // 2
    assert "rules chosen on 6 other prompts" in capsys.readouterr().out
    kinds = [tuple(row["kind"]) for row in task["chosen"]]
    assert kinds[:2] == [("reference",), ("parallel",)]
    assert len(set(kinds)) == len(kinds) == 5
    for row in task["chosen"]:
        assert row["is_reached"] == (row["choosing"]["difference"] >= 0)
        assert row["figures"]["rule"] == row["choosing"]["rule"]


def test_the_command_of_each_chosen_rule_is_shown_or_why_it_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", task="my prompts.jsonl")
    command = [str(run), "--split", "--rules", f"{RULES},price:0.5", "--resamples", "40"]
    assert replay.main(command) == 0
    head, *lines = capsys.readouterr().out.partition("in a run: ")[2].split("\n\n")[0].splitlines()
    assert head == f"evals/run.py --methods vote --task 'my prompts.jsonl' --max-sequences {M} …"
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert {"parallel", "shared:0.3", "price:0.5"} <= {*shown}
    for rule, text in shown.items():
        is_shared = rule.startswith(("shared", "price"))
        assert text.startswith("no options: no option" if is_shared else "--temperature ")


def test_rules_are_chosen_on_some_runs_and_shown_on_others(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / str(seed), seeds=(seed,)) for seed in (0, 1))
    arguments = ("--choose-on", str(first), "--show-on", str(second), "--rules", RULES)
    (task,) = played(*arguments, tmp_path=tmp_path)
    assert task["num_prompts"] == task["num_choosing"] == NUM_PROMPTS
    (alone,) = played(str(second), "--rules", "parallel", tmp_path=tmp_path)
    shown = {f["temperature"]: f for f in alone["figures"]}
    reference = task["chosen"][0]["figures"]
    assert reference["accuracy"] == shown[reference["temperature"]]["accuracy"]


def test_seeds_are_more_samples_and_tasks_have_their_tables(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "two", seeds=(0, 1)),
        write_run(tmp_path / "third", seeds=(2,)),
        write_run(tmp_path / "wordy", task="countdown_wordy"),
    ]
    tasks = played(*map(str, folders), "--rules", "parallel:8", tmp_path=tmp_path)
    numbers = {task["task"]: task["setting"]["max_sequences"] for task in tasks}
    assert numbers == {"countdown": 3 * M, "countdown_wordy": M}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no run is given; give the folders of runs with --record"),
        (["RUN", "--rules", "best"], "unknown part 'best' of rule 'best'; choose from parallel"),
        (["RUN", "--max-sequences", "9"], "--max-sequences is 9; the runs have 8 samples"),
        (["RUN", "--resamples", "0"], "--resamples is 0; it must be at least 1"),
        (["RUN", "RUN"], "two of the runs have prompt-0 with the same seed; give one of them"),
        (["--choose-on", "RUN"], "give runs, with or without --split; or --choose-on and --show"),
        (["NONE"], "holds no run; give the folder of one"),
    ],
)
def test_a_wrong_command_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    folders = {"RUN": str(write_run(tmp_path / "run")), "NONE": str(tmp_path / "none")}
    assert replay.main([folders.get(word, word) for word in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_rules_on_confidences_need_recorded_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for line in lines:
        for sequence in line["sequences"]:
            del sequence["columns"]
    (run / "results.jsonl").write_text("".join(map(to_line, lines)))
    assert replay.main([str(run), "--rules", "beta+trie", "--resamples", "5"]) == 0
    assert replay.main([str(run), "--rules", "cut:0.9:4:2", "--resamples", "5"]) == 2
    assert "looks at values of tokens; prompt-0 has none" in capsys.readouterr().err
