"""Rules for votes, played on recorded independent samples: what `evals/replay.py` computes.

Full Parallel's sequences are independent draws, so that any rule which starts, cuts or weighs
independent samples would have seen some of them in some order. The laboratory draws such orders,
and computes the vote and the exact cost of a rule in each, without a server. It has nothing to do
with `evals.execution.replay`, where the schedules of a run decide again on the run's own trees.

`read` makes `samples` of the folders of runs, `draws` are orders of a prompt's samples, `syntax`
reads `rules`, `play` plays them, by `starting`, `consensus`, `cutting`, `costs`, `weighing` and
`budgets`; `outcome` has the figures of a rule, `choosing` chooses rules by them, and `table` prints
them. Only the command uses this folder.
"""
