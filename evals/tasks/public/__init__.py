"""The tasks over datasets of the Hugging Face hub, one per module: the registry lists this folder.

To add a task, write `evals/tasks/public/NAME.py` with an object `TASK` of that name:

    TASK = MathBenchmark(
        name="NAME",
        source=Source(path="owner/dataset", split="test", revision=COMMIT, columns=("q", "a")),
        question="q",
        answer="a",
        grader="math",
    )

`MathBenchmark` (an answer in a box) and `ChoiceBenchmark` (a letter) read columns unchanged; a
dataset that needs more is a subclass of `Benchmark` in the same file. For its test, add four or
more rows as `tests/evals/tasks/fixtures/NAME.jsonl` and the documented columns to
`tests/evals/tasks/columns.json`; `test_benchmarks.py` then runs on it.
"""
