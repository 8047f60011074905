"""How fast sequences are generated while branching: what `evals/bench.py` times.

`shapes` times the ways to generate on one workload, `workload` says what the work is and what makes
it equal, `client` times the client alone on `instant_server`, and `table` prints a line per result.
Only the command uses this folder.
"""
