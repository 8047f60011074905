"""Tasks of the reasoning-gym library: its generators and scorers, by name and parameters.

`GymTask.read("reasoning_gym:chain_sum?max_terms=4")` is the task. The library is imported in other
processes alone: `generator` is the program that makes the questions, `scorer` runs in the judges'
workers. `selection` reads the name and parameters of a task, `source` starts the generator,
`answers` asks for an answer and finds it, `plain` keeps the library from evaluating code.
"""

from evals.tasks.gym.selection import PREFIX
from evals.tasks.gym.task import GymTask

__all__ = ["PREFIX", "GymTask"]
