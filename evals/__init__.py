"""The evaluation: methods on tasks, judged, counted and compared at equal tokens.

Four commands: `run.py` evaluates, `compare.py` compares the methods of a run, `calibrate.py`
chooses θ, `bench.py` times. Their rooms, from the lowest: `grading`, `tasks`, `records`, `config`,
`analysis`, `report`, `execution`, and `comparison` and `throughput` beside each other; `reasoner`
makes the bundled models. No room imports a higher one (`pyproject.toml`).
"""
