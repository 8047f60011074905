"""The methods of a run compared at equal tokens and at equal pass: what `evals/compare.py` prints.

`compare.compare` makes a `Comparison` from records, `compare.comparison_json` is the content of
`compare.json`, `table.render` prints it, `plot.draw_curves` draws it, and `read.read_run` reads the
folder of a run that can be compared. `null_simulation` measures how often the intervals err. Only
the command uses this folder.
"""
