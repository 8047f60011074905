"""Countdown problems and the reasoning chains that the tiny reasoner learns to write.

A chain makes an attempt, restates the remaining values after every step, judges its result, and
retries at most twice. It is a list of spans, because not all of it should be imitated: the choices
of an attempt that fails carry no loss, while its arithmetic and its verdict do.
"""

import random
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace

from evals.reasoner.styles import PLAIN, Style
from evals.tasks.countdown_rules import Key, Problem

__all__ = [
    "LEVELS",
    "MAX_ATTEMPTS",
    "LevelRule",
    "Span",
    "Step",
    "generate_chain",
    "held_out_problems",
    "write_chain",
]

MAX_ATTEMPTS = 3
MAX_VALUE = 99  # every value has two digits: a fixed width made arithmetic learnable
MAX_DRAWS_FOR_NEW = 20
OPERATORS = "+-*/"
NUM_FAILURES_WEIGHTS = (9, 4, 3, 3)  # of 0, 1 or 2 failures before success, and of no success


@dataclass(frozen=True)
class LevelRule:
    """How problems of a level are drawn, and `weight`: its share of the training chains."""

    num_numbers: int
    max_number: int
    operators: str
    required: str  # the solution has at least one of these operators
    weight: float


LEVELS = {
    1: LevelRule(2, 25, OPERATORS, OPERATORS, 0.10),
    2: LevelRule(3, 25, "+-", "+-", 0.20),
    3: LevelRule(3, 25, OPERATORS, "*/", 0.25),
    4: LevelRule(4, 20, OPERATORS, OPERATORS, 0.45),
}


@dataclass(frozen=True)
class Step:
    """`left operator right = value`, with 1 <= value <= 99.

    The larger operand is on the left, except where a style has swapped those of + or *.
    """

    left: int
    operator: str
    right: int
    value: int

    @property
    def choice(self) -> str:
        return f"{self.left:02d}{self.operator}{self.right:02d}"


@dataclass(frozen=True)
class Span:
    """A part of a chain's text; `trained` is False where it must not be imitated."""

    text: str
    trained: bool


Attempt = tuple[Step, ...]


def random_attempt(rng: random.Random, numbers: Iterable[int], operators: str) -> Attempt | None:
    """Combines random pairs down to a single value; None if a pair allows no step."""
    pool, steps = list(numbers), []
    while len(pool) > 1:
        left, right = sorted(rng.sample(pool, 2), reverse=True)
        legal = [step for step in _steps_of(left, right) if step.operator in operators]
        if not legal:
            return None
        steps.append(rng.choice(legal))
        pool.remove(left)
        pool.remove(right)
        pool.append(steps[-1].value)
    return tuple(steps)


def random_problem(rng: random.Random, level: int) -> tuple[Problem, Attempt]:
    """A problem of the level and an attempt that solves it."""
    rule = LEVELS[level]
    while True:
        numbers = tuple(rng.randint(1, rule.max_number) for _ in range(rule.num_numbers))
        attempt = random_attempt(rng, numbers, rule.operators)
        if attempt and any(step.operator in rule.required for step in attempt):
            return Problem(numbers, attempt[-1].value, level), attempt


def held_out_problems(seed: int, num_per_level: int) -> list[Problem]:
    """Problems with different keys, easiest level first; the same for the same seed."""
    rng = random.Random(f"held out {seed}")
    problems: dict[Key, Problem] = {}
    for index, level in enumerate(LEVELS, start=1):
        while len(problems) < index * num_per_level:
            problem, _ = random_problem(rng, level)
            problems.setdefault(problem.key, problem)
    return list(problems.values())


def generate_chain(
    rng: random.Random, excluded: Container[Key], style: Style = PLAIN
) -> tuple[Problem, list[Span]]:
    """A training problem whose key is not in `excluded`, and its chain."""
    level = rng.choices(list(LEVELS), [rule.weight for rule in LEVELS.values()])[0]
    problem, solution = random_problem(rng, level)
    while problem.key in excluded:
        problem, solution = random_problem(rng, level)
    num_failures = rng.choices(range(MAX_ATTEMPTS + 1), NUM_FAILURES_WEIGHTS)[0]
    attempts: list[Attempt] = []
    for _ in range(num_failures):
        attempts.append(_failure(rng, problem, attempts))
    if num_failures < MAX_ATTEMPTS:
        attempts.append(solution)
    return problem, list(write_chain(rng, problem, attempts, style))


def write_chain(
    rng: random.Random, problem: Problem, attempts: list[Attempt], style: Style = PLAIN
) -> Iterator[Span]:
    """The text after `<think>`: attempts, `</think>`, the expression of the last attempt.

    Only the last attempt may reach the target. `21~02=19 no` is a verdict: 21 is 19 away from 02. A
    bare ok or no, without the distance, is a comparison that was hardly learned.
    """
    attempts = [_reordered(rng, attempt, style) for attempt in attempts]
    for number, attempt in enumerate(attempts, start=1):
        yield Span(f"{number}:", True)
        yield from _write_attempt(rng, problem, attempt, style)
        if number < len(attempts):
            yield Span("\n", True)
    yield Span("</think>" + _expression(problem.numbers, attempts[-1]), True)


def _write_attempt(
    rng: random.Random, problem: Problem, attempt: Attempt, style: Style
) -> Iterator[Span]:
    solved = attempt[-1].value == problem.target
    for index, pool in enumerate(_remaining_values(problem.numbers, attempt)):
        step = attempt[index]
        if opener := style.pick(rng, style.openers if index else style.first_openers):
            yield Span(opener, True)
        yield Span(step.choice, solved)
        result = f"{style.pick(rng, style.equals)}{step.value:02d}"
        if len(pool) > 1:
            values = " ".join(f"{value:02d}" for value in style.order_values(rng, pool))
            result += style.pick(rng, style.linkers) + values + "\n"
        yield Span(result, True)
    distance = abs(attempt[-1].value - problem.target)
    verdict = style.pick(rng, style.right if solved else style.wrong)
    yield Span(f"~{problem.target:02d}={distance:02d}{verdict}", True)


def _reordered(rng: random.Random, attempt: Attempt, style: Style) -> Attempt:
    operands = (style.order_operands(rng, step.left, step.operator, step.right) for step in attempt)
    return tuple(
        replace(step, left=left, right=right)
        for step, (left, right) in zip(attempt, operands, strict=True)
    )


def _steps_of(left: int, right: int) -> list[Step]:
    """All steps on two values with left >= right whose result is whole and in range."""
    values = {"+": left + right, "-": left - right, "*": left * right}
    if left % right == 0:
        values["/"] = left // right
    return [
        Step(left, operator, right, value)
        for operator, value in values.items()
        if 1 <= value <= MAX_VALUE
    ]


def _failure(rng: random.Random, problem: Problem, earlier: list[Attempt]) -> Attempt:
    """A random attempt that misses the target, and differs from earlier attempts if possible."""
    num_draws = 0
    while True:
        attempt = random_attempt(rng, problem.numbers, OPERATORS)
        num_draws += 1
        if attempt is None or attempt[-1].value == problem.target:
            continue
        if attempt not in earlier or num_draws > MAX_DRAWS_FOR_NEW:
            return attempt


def _remaining_values(numbers: tuple[int, ...], attempt: Attempt) -> Iterator[list[int]]:
    """The values left after every step, the newest last."""
    pool = list(numbers)
    for step in attempt:
        for operand in (step.left, step.right):
            del pool[_last_index(pool, operand)]
        pool.append(step.value)
        yield list(pool)


def _expression(numbers: tuple[int, ...], attempt: Attempt) -> str:
    """The attempt as an expression; of equal values the newest is used first."""
    pool = list(numbers)
    written = [f"{number:02d}" for number in numbers]
    for step in attempt:
        operands = []
        for operand in (step.left, step.right):
            index = _last_index(pool, operand)
            del pool[index]
            operands.append(written.pop(index))
        pool.append(step.value)
        written.append(f"({operands[0]}{step.operator}{operands[1]})")
    return written[0][1:-1]


def _last_index(pool: list[int], value: int) -> int:
    return len(pool) - 1 - pool[::-1].index(value)
