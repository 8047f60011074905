"""An OpenAI-compatible server in front of SGLang servers: `python -m eager_sgl.server --help`.

Low to high:
    errors, metrics           OpenAI's form of every error; Prometheus metrics
    schema                    the bodies of requests, checked; fields that are refused by name
    facts, exactness          what the SGLang servers serve; whether a tree has their distribution
    vote, plan                boxed answers; a tree, or the SGLang server's route, and why
    settled, answers          pieces of text that no decision takes back; choices and usage
    trees, relay              the two ways to answer, whole or as server-sent events
    guard, access             keys, limits, disconnects; the access log
    settings, app             the command line; routes
    __main__, backend         the command; the backend of `sglang serve`

Nothing else in the library imports it. Importing `app` imports FastAPI, and no SGLang.
"""
