"""Programs that a model wrote, judged by tests in a sandbox (bubblewrap, Linux).

`score(text, problem)` judges an answer; `require_isolation()` raises `IsolationError`, with the
remedy, on a machine that cannot isolate programs. The other modules are parts of these two.
"""

from evals.grading.programs.code import CodeProblem, score
from evals.grading.programs.isolation import IsolationError, require_isolation

__all__ = ["CodeProblem", "IsolationError", "require_isolation", "score"]
