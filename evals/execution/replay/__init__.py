"""`--replay`: the schedules of a run decide again on its recorded tokens, without a server.

From the outside in: `folder` replays a run's folder and reports, `stages` replays one result, stage
by stage, and `grants` the grants of a cell; `methods` makes the method of a result, `trees` runs
its schedule on the recorded sequences, and `recorded` has these and compares the leaves with them.

It is not what `evals/replay.py` does: that plays other rules on the samples of Full Parallel.
"""
