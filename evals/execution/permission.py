"""Whether programs of the model may run on this machine."""

from __future__ import annotations

from evals.tasks import Task

__all__ = ["obstacle"]


def obstacle(task: Task, *, may_run_code: bool) -> str | None:
    """Why sequences of a task may not be judged; None if they may."""
    if not task.needs_isolation:
        return None
    if not may_run_code:
        return (
            f"judging {task.name} runs programs that the model wrote, in a sandbox; allow it with "
            "--allow-code-execution"
        )
    from evals.grading.programs import IsolationError, require_isolation

    try:
        require_isolation()
    except IsolationError as error:
        return str(error)
    return None
