"""The evaluation: methods on tasks, judged, counted and compared at equal tokens.

Commands: `run.py` evaluates, `compare.py` compares the methods of a run, `replay.py` plays rules
for votes on recorded samples, `calibrate.py` chooses θ, `bench.py` times. Their rooms, from the
lowest: `grading`, `tasks`, `records`, `config`, `analysis`, `report`, `execution`, and
`comparison`, `laboratory` and `throughput` beside each other; `reasoner` makes the bundled models.
`proof` makes a page of a run to post, and `peers` asks other projects before the endpoint. No room
imports a higher one (`pyproject.toml`).
"""
