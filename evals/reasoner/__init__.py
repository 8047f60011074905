"""The bundled models: two tiny Llamas that solve Countdown by reasoning (see README.md).

`model/` and `wordy_model/` are the folders to serve; tasks and runs use only these. The scripts
`train.py`, `measure.py` and `positions.py` train a model and print the figures of its card. The
modules here are for them and for tests, and import nothing of `evals` but `evals.tasks`.
"""
