"""Worker processes for calls that may hang, crash or exhaust memory.

`shared_pool(*modules).call(function, *arguments, limit=seconds)` raises a `WorkerError` where the
call has no result. `worker` is the program of the processes; only `pool` starts it.
"""

from evals.grading.workers.pool import CallTimeoutError, WorkerError, shared_pool

__all__ = ["CallTimeoutError", "WorkerError", "shared_pool"]
