"""Prompts in, sequences out: clients, and the loop in which a schedule decides and requests run.

Low to high:
    events, narration, text   what happens while a prompt runs: `Event`; from decisions; with texts
    limits, observers         what a prompt may use, and who sees it grow
    stops, reading, workers   stop tokens and texts of a tree; threads for functions of the user's
    executor                  `TreeExecutor`: the requests that generate a tree
    growth, results           the loop of a prompt; its result, whole or partial
    prompt, resuming          a prompt by a method; the deferred branches of an earlier result
    mapping, stream           many prompts; the events of one
    client, blocking          `AsyncClient`; `Client`: the same without `await`
"""
