"""The tasks over public datasets, on made-up questions in the schema of each dataset."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.tasks import TASKS, Sample, find_task
from evals.tasks.benchmark import Benchmark
from evals.tasks.hub import DatasetError, load_rows
from evals.tasks.public.gpqa_diamond_original import ShuffledChoices

HERE = Path(__file__).parent
COLUMNS: dict[str, Any] = json.loads((HERE / "columns.json").read_text())
FIXTURES = {
    path.stem: path for path in (HERE / "fixtures").iterdir() if not path.stem.startswith("own")
}
BENCHMARKS = [name for name in TASKS if not name.startswith("countdown")]


def task_of(name: str) -> Benchmark:
    task = find_task(name, FIXTURES[name])
    assert isinstance(task, Benchmark)
    return task


def samples_of(name: str) -> list[Sample]:
    return task_of(name).load(None, None, 0)


def test_every_task_has_a_fixture_and_documented_columns() -> None:
    assert set(BENCHMARKS) == set(FIXTURES) == set(COLUMNS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_columns_asked_for_are_those_documented_for_the_revision(name: str) -> None:
    source, known = task_of(name).source, COLUMNS[name]
    documented = known["path"], known["revision"], known["split"]
    assert (source.path, source.revision, source.split) == documented
    assert len(source.revision) == 40
    assert set(source.columns) <= set(known["columns"])
    assert known["source"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_fixture_has_the_columns_of_the_dataset(name: str) -> None:
    task = task_of(name)
    for row in load_rows(task.source, FIXTURES[name]):
        assert list(row.values) == COLUMNS[name]["columns"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_loads(name: str) -> None:
    samples = samples_of(name)
    assert len(samples) >= 4
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        (message,) = sample.prompt
        assert message["role"] == "user"
        assert message["content"] == message["content"].strip()
    assert task_of(name).to_json()["revision"] == COLUMNS[name]["revision"]


def answer_of(name: str, sample: Sample) -> str:
    """A right answer, in the form that the instruction asks for."""
    if name == "humaneval_plus":
        problem = sample.reference
        return f"Here it is.\n\n```python\n{problem.prompt}{problem.canonical_solution}```\n"
    return f"So the answer is $\\boxed{{{sample.reference}}}$."


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "humaneval_plus"])
def test_only_the_reference_answer_is_judged_right(name: str) -> None:
    task, samples = task_of(name), samples_of(name)
    for sample in samples:
        score = task.score(sample, answer_of(name, sample))
        assert (score.correct, score.status) == (True, "judged"), (sample.id, score)
        for other in samples:
            if other.reference != sample.reference:
                assert not task.score(sample, answer_of(name, other)).correct


def test_only_the_program_of_the_task_is_judged_right() -> None:
    from evals.grading.programs import IsolationError, require_isolation

    try:
        require_isolation()
    except IsolationError as error:
        pytest.skip(str(error))
    task, samples = task_of("humaneval_plus"), samples_of("humaneval_plus")
    for sample, other in zip(samples, samples[1:] + samples[:1], strict=True):
        score = task.score(sample, answer_of("humaneval_plus", sample))
        assert (score.correct, score.status) == (True, "judged"), score
        assert not task.score(sample, answer_of("humaneval_plus", other)).correct


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "humaneval_plus"])
def test_equivalent_answers_share_a_class(name: str) -> None:
    task, sample = task_of(name), samples_of(name)[0]
    right = task.score(sample, answer_of(name, sample)).answer
    assert right is not None
    assert task.classes(sample, [None, right, right]) == [None, 1, 1]


def test_mathematical_votes_are_over_values() -> None:
    task, sample = task_of("hmmt_feb_2025"), samples_of("hmmt_feb_2025")[0]
    assert task.classes(sample, ["\\frac{1}{2}", "0.5", None, "\\frac12"]) == [0, 0, None, 0]


def test_the_answer_of_a_word_problem_follows_its_mark() -> None:
    references = {sample.reference for sample in samples_of("gsm8k")}
    assert references == {"36", "1250", "29", "60"}


def test_both_papers_of_a_year_form_a_benchmark() -> None:
    ids = sorted(sample.id for sample in samples_of("aime_2025"))
    assert ids == ["AIME2025-I/1", "AIME2025-I/2", "AIME2025-II/1", "AIME2025-II/2"]


def test_a_single_file_can_replace_a_dataset_of_two_configurations() -> None:
    copy = FIXTURES["aime_2025"] / "aime2025-I.jsonl"
    samples = find_task("aime_2025", copy).load(None, None, 0)
    assert sorted(sample.id for sample in samples) == ["1", "2"]


def test_levels_are_those_of_the_dataset() -> None:
    task = task_of("math_500")
    assert {sample.level for sample in task.load(None, None, 0)} == {1, 2, 3, 5}
    assert [sample.level for sample in task.load(None, (2,), 0)] == [2, 2]


def test_shuffled_choices_are_deterministic_and_hide_the_right_choice() -> None:
    first, again = samples_of("gpqa_diamond_original"), samples_of("gpqa_diamond_original")
    assert first == again
    assert len({sample.reference for sample in first}) > 1
    for sample in first:
        for letter in "ABCD":
            assert f"\n{letter}. " in sample.prompt[0]["content"]
    assert task_of("gpqa_diamond_original").to_json()["choice_seed"] == 0


def test_the_recorded_seed_fixes_the_order_of_choices() -> None:
    task = task_of("gpqa_diamond_original")
    assert isinstance(task, ShuffledChoices)
    orders = [replace(task, choice_seed=seed).load(None, None, 0) for seed in (0, 0, 1, 2)]
    assert orders[0] == orders[1] == samples_of("gpqa_diamond_original")
    assert len({str(order) for order in orders}) == 3


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_hub_is_asked_for_the_pinned_revision(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    requests: list[tuple[Any, ...]] = []

    def load_dataset(path: str, config: str | None, *, split: str, revision: str) -> Any:
        requests.append((path, config, split, revision))
        return datasets.Dataset.from_dict({column: [] for column in COLUMNS[name]["columns"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = find_task(name)
    assert isinstance(task, Benchmark)
    assert load_rows(task.source) == []
    known = COLUMNS[name]
    expected = {(known["path"], known["split"], known["revision"])}
    assert {(path, split, revision) for path, _, split, revision in requests} == expected
    assert [config for _, config, *_ in requests] == list(task.source.names)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json"])
def test_a_copy_can_have_any_format(tmp_path: Path, suffix: str) -> None:
    import datasets

    table = datasets.load_dataset(
        "json", data_files=str(FIXTURES["math_500"]), split="train", cache_dir=str(tmp_path / "hf")
    )
    path = tmp_path / f"copy{suffix}"
    {".parquet": table.to_parquet, ".csv": table.to_csv, ".json": table.to_json}[suffix](path)
    assert find_task("math_500", path).load(None, None, 0) == samples_of("math_500")


def test_a_folder_with_a_single_file_is_a_copy(tmp_path: Path) -> None:
    shutil.copy(FIXTURES["gsm8k"], tmp_path / "test.jsonl")
    assert find_task("gsm8k", tmp_path).load(None, None, 0) == samples_of("gsm8k")


def refused(name: str, copy: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        find_task(name, copy).load(None, None, 0)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_column_is_named_with_the_columns_present() -> None:
    message = refused("math_500", FIXTURES["gsm8k"])
    assert "no column 'unique_id', 'problem', 'level'; it has question, answer" in message


def test_an_empty_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "holes.jsonl"
    path.write_text('{"question": "a", "answer": "#### 1"}\n{"question": "b", "answer": null}\n')
    assert refused("gsm8k", path) == f"row 2 of {path} is empty in column 'answer'"


def test_other_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "has no suffix of .csv, .json" in refused("gsm8k", tmp_path / "notes.txt")
    assert "there is no dataset at" in refused("gsm8k", tmp_path / "absent.jsonl")
    (tmp_path / "torn.jsonl").write_text('{"question": ')
    assert "cannot load the test split" in refused("gsm8k", tmp_path / "torn.jsonl")
    (tmp_path / "empty").mkdir()
    assert "there is no dataset in" in refused("gsm8k", tmp_path / "empty")


@pytest.mark.parametrize("name", ["aime_2025", "gpqa_diamond_original"])
def test_without_the_hub_the_message_gives_the_command_to_run(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DatasetError) as caught:
        find_task(name).load(None, None, 0)
    message, source = str(caught.value), COLUMNS[name]
    assert f"`hf download {source['path']} --repo-type dataset --revision {source['revision']}" in (
        message
    )
    assert "--dataset" in message
    assert "HF_HOME" in message
    assert ("hf auth login" in message) == (name == "gpqa_diamond_original")


def test_a_gated_dataset_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is that of the hub without a login."""
    import datasets

    def load_dataset(path: str, *arguments: object, **options: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError(
            f"Dataset '{path}' is a gated dataset on the Hub. You must be authenticated."
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DatasetError, match="is gated: agree to its terms at https.*hf auth login"):
        find_task("gpqa_diamond_original").load(None, None, 0)
