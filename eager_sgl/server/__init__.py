"""An OpenAI-compatible server in front of SGLang servers: `python -m eager_sgl.server --help`.

Low to high:
    errors, limits            OpenAI's form of every error; what a request may ask for
    schema                    the bodies of requests, checked; fields that are refused by name
    facts, exactness          what the SGLang servers serve; whether a tree has their distribution
    voting/                   the answers of sequences, and the best sequence
    tree_method, plan         the method of a tree; a tree, or the SGLang server's route, and why
    answers, bill             choices and pieces of choices in OpenAI's form; what they have cost
    settled, writers          pieces of text that no decision takes back; streams of choices
    trees, relay              the two ways to answer, whole or as server-sent events
    traffic/                  keys, bounds, the queue, metrics, the access log
    settings, upstream, app   the command line; the connected SGLang servers; routes
    __main__, backend         the command; the backend of `sglang serve`

Nothing else in the library imports it. Importing `app` imports FastAPI, and no SGLang.
"""
