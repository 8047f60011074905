"""What the endpoint costs: `python -m evals.throughput.endpoint --help`.

`process` runs the endpoint and reads its memory and CPU time, `asking` sends requests and times
them, `relay` compares routes request by request, `samples` compares `n` samples of both, and
`__main__` prints the tables. The load test and the comparison with peers use `process` too.
"""
