"""The client side of SGLang servers: requests for tokens, and SGLang's frontend on top of them.

Low to high:
    addresses, limits      URL, API key, timeouts and retries, as users and commands configure them
    checks, shapes         validation of requests before they are sent, and of answers
    protocol, text_answers SGLang's JSON formats; no dictionary of a server passes them unchecked
    loop                   the event loop of the synchronous faces
    connections, faults    the HTTP connections of an event loop; the errors of a request
    transport              `Transport`: requests with timeouts (`clock`) and retries
    gate                   the entropy gate: steps that the server reports
    requests, probe        `Request`, `RequestHandle`; `ServerProfile` (`seeds` probes a part of it)
    client                 `TokenClient`: tokens, texts and facts of a model (`pace`: its speed)
    replicas               `Replicas`: the servers of one client, which share its trees
    frontend               SGLang programs on a token client: `TokenEndpoint`, `connect`

Trees use `replicas`, `client` and `requests`; commands use `addresses` and
`limits`, whose import costs nothing. Nothing here knows trees or searches.
"""
