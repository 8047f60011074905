"""Judges: a model's text and a reference answer become a `Score`. The lowest folder of `evals`.

`integers`, `letters`, `mathematics` and `plain` have `score(text, gold)`, `mathematics` also
`classes(answers)` for votes; `programs` judges code in a sandbox. `notation` (text) and `equality`
(SymPy) serve the mathematics, `workers` runs it in processes that can be killed. Tasks choose their
judge in `evals.tasks.graders`; others use `score.Score` and `votes.vote_classes`.
"""
