"""A run at work: server, prompts in tasks, budgets, progress, endings, judging again, replaying.

The commands use `evaluation.evaluate`, `publishing`, `calibrating`, `endings`. From the outside in:
`evaluation` connects and runs each group of cells, `stages` and `group_run` decide which prompt
starts when, `worker.Worker` runs one prompt in one cell by the object that `methods` makes of the
cell and the function that `calls` has for its stage, `cell_runs` keeps the counts,
`progress` prints a line with an estimate of the time left. `journal`
keeps what `replay` needs to decide again without a server.
"""
