"""The tasks over datasets of the Hugging Face hub, a module each: the registry lists this folder.

To add a task, write `evals/tasks/public/NAME.py` with an object `TASK` of that name:

    TASK = MathBenchmark(
        name="NAME",
        source=Source(path="owner/dataset", split="test", revision=COMMIT, columns=("q", "a")),
        question="q",
        answer="a",
        grader="math",
    )

`MathBenchmark` (an answer in a box) and `ChoiceBenchmark` (a letter) take columns as they are; a
dataset that needs more is a subclass of `Benchmark` in the same file. Its test is a few rows in
`tests/evals/tasks/fixtures/NAME.jsonl` and its documented columns in `columns.json` beside them:
the tests of `test_benchmarks.py` then run on it.
"""
