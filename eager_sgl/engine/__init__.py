"""The client side of SGLang servers: requests for tokens, and SGLang's frontend on top of them.

Low to high:
    addresses, limits      URL, API key, timeouts and retries, as users and commands configure them
    checks, shapes         validation of requests before they are sent, and of answers
    protocol, text_answers SGLang's JSON formats; no dictionary of a server passes them unchecked
    connections, faults    the HTTP connections of a process; the errors of a request
    transport              `Transport`: requests with timeouts and retries
    gate                   the entropy gate: branch points that the server reports
    requests, probe        `Request`, `RequestHandle`; `ServerProfile`
    client                 `TokenClient`: tokens, texts and facts of a model, without a frontend
    states, workers        token ids of a program's state; errors of its worker thread
    interpreter, endpoint  SGLang programs on a token client: `TokenEndpoint`, `connect`

The executor and programs use `endpoint`, `client`, `requests` and `gate.parameters`; commands use
`addresses` and `limits`, whose import costs nothing. Nothing here knows trees or searches.
"""
