"""How fast sequences are generated while branching: what `evals/bench.py` times.

`profiles` has what is timed by default, `contenders` the ways to generate by name, `workload` says
what the work is and what it is compared with, `shapes` times the ways on a workload, `rows` makes
figures of the passes, with the server's `steps`, and `table` prints a line per result. `vocabulary`
makes a model of a large one, and `client` times the client alone on `instant_server`. Only the
command uses this folder.
"""
