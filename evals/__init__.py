"""The evaluation: methods on tasks, judged, counted and compared at equal tokens.

Commands: `run.py` evaluates, `compare.py` compares the methods of a run, `replay.py` plays rules
for votes on recorded samples, `calibrate.py` chooses θ, `bench.py` times. Their folders, from the
lowest: `grading`, `tasks`, `records`, `config`, `analysis`, `report`, `execution`, and
`comparison`, `laboratory` and `throughput` beside each other; `reasoner` makes the bundled models.
`proof` makes a page of a run to post, and `peers` compares the endpoint's `vote` with other
projects. No folder imports a higher one (`pyproject.toml`).
"""
