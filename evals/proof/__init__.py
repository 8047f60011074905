"""A proof that can be posted: methods on one benchmark within a number of tokens.

`python -m evals.proof --help`. A pilot of Full Parallel measures what a prompt costs (`sizing`);
`evals/run.py` then runs the methods on as many prompts as the tokens allow, and `page` writes one
page and one JSON file from its summary. Both runs continue where they stopped.
"""
