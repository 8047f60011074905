"""An OpenAI-compatible server in front of SGLang servers: `python -m eager_sgl.server --help`.

Low to high:
    errors, metrics           OpenAI's form of every error; Prometheus metrics
    schema                    the bodies of requests, checked; fields that are refused by name
    plan                      a tree, or the SGLang server's route, and why
    settled, answers          pieces of text that no decision takes back; choices and usage
    trees, relay              the two ways to answer, whole or as server-sent events
    guard                     keys, limits, deadlines, disconnects, the access log
    app, settings, __main__   routes; the command line; the command

Nothing else in the library imports it. Importing `app` imports FastAPI, and no SGLang.
"""
