"""Prompts in, sequences out: clients, and the loop in which a schedule decides and requests run.

Low to high:
    events     what happens while a prompt runs: `Event`
    narration  the events between successive decisions
    text       the texts of tokens while they arrive
    executor   `TreeExecutor`: the requests that generate a tree
    growth     the loop of a prompt, with deadline, limit and cancellation
    client     `AsyncClient`
    blocking   `Client`: the same without `await`
"""
