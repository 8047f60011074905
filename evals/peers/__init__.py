"""`vote` through the endpoint against other self-consistency: `python -m evals.peers --help`.

All are clients by URL of one SGLang server, with the same prompts and budget. `environment`
installs the peers apart from this package, `clients` asks from there, `answers` are compared in the
votes of all, `outcomes` judges the winners and counts the tokens of the server, and `__main__`
prints the table.
"""
