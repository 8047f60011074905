"""Figures of the records of a run: pure functions of records, plans and plain numbers.

`metrics` has the figures of one prompt and over prompts, `intervals` the only bootstrap, `groups`
the records of a cell prompt by prompt, `curves` and `prompt_curves` what a method reaches with how
many tokens, `matching` Full Parallel at equal tokens, `second_stages` restart against resume,
`diagnostics` the failure signs. Reports, comparisons and the commands use all of them.
"""
