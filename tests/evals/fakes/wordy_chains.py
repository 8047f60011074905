"""A strict reader of wordy chains, written apart from what writes them."""

import re
from dataclasses import dataclass, field

from evals.tasks.countdown_rules import Problem

VALUE = r"(\d\d)"
STEP = re.compile(rf"{VALUE}([-+*/]){VALUE}(=| is ){VALUE}")
LEFT_OVER = re.compile(r"(;| left )(\d\d(?: \d\d)*)\n")
VERDICT = re.compile(rf"~{VALUE}={VALUE}( ok| yes| good| no| off| bad)")
FIRST_OPENER = re.compile(r"try |let |say |take ")
OPENER = re.compile(r"then |next |so ")
RIGHT = (" ok", " yes", " good")


@dataclass
class Fillers:
    """The choices of a chain at which another text would have been as good.

    `swapped` has, for each unmasked + or * of two different operands, whether the smaller operand
    is first; `orders`, for each list of three different values, their ranks.
    """

    first_openers: list[str] = field(default_factory=list)
    openers: list[str] = field(default_factory=list)
    equals: list[str] = field(default_factory=list)
    linkers: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    swapped: list[bool] = field(default_factory=list)
    orders: list[tuple[int, ...]] = field(default_factory=list)


@dataclass
class Reader:
    """Reads one chain from left to right; anything that is not in its grammar is an error."""

    problem: Problem
    text: str
    fillers: Fillers
    position: int = 0

    def take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self.text, self.position)
        assert match, f"{pattern.pattern!r} does not match {self.text[self.position :]!r}"
        self.position = match.end()
        return match

    def read_chain(self) -> tuple[int, bool, str]:
        """The number of attempts, whether the last one claims success, and the answer."""
        num_attempts, solved = 1, self.read_attempt(1)
        while self.text[self.position] == "\n":
            assert not solved, "an attempt after one that succeeded"
            self.position += 1
            num_attempts += 1
            solved = self.read_attempt(num_attempts)
        assert self.text.startswith("</think>", self.position)
        return num_attempts, solved, self.text[self.position + len("</think>") :]

    def read_attempt(self, number: int) -> bool:
        self.take(re.compile(f"{number}:"))
        pool = sorted(self.problem.numbers)
        self.fillers.first_openers.append(self.take(FIRST_OPENER)[0])
        while True:
            pool = self.read_step(pool)
            if len(pool) == 1:
                return self.read_verdict(pool[0])
            self.fillers.openers.append(self.take(OPENER)[0])

    def read_step(self, pool: list[int]) -> list[int]:
        left, operator, right, equals, value = self.take(STEP).groups()
        left_value, right_value, result = int(left), int(right), int(value)
        self.fillers.equals.append(equals)
        assert result == evaluate_step(left_value, operator, right_value)
        if operator in "+*" and left_value != right_value:
            self.fillers.swapped.append(left_value < right_value)
        rest = list(pool)
        rest.remove(left_value)
        rest.remove(right_value)
        rest = sorted([*rest, result])
        if len(rest) > 1:
            linker, values = self.take(LEFT_OVER).groups()
            self.fillers.linkers.append(linker)
            self.read_values([int(value) for value in values.split()], rest)
        return rest

    def read_values(self, values: list[int], expected: list[int]) -> None:
        assert sorted(values) == expected
        if len(set(values)) == len(values) == 3:
            self.fillers.orders.append(tuple(expected.index(value) for value in values))

    def read_verdict(self, result: int) -> bool:
        target, distance, verdict = self.take(VERDICT).groups()
        assert int(target) == self.problem.target
        assert int(distance) == abs(result - self.problem.target)
        solved = verdict in RIGHT
        assert solved is (result == self.problem.target)
        (self.fillers.right if solved else self.fillers.wrong).append(verdict)
        return solved


def evaluate_step(left: int, operator: str, right: int) -> int:
    results = {"+": left + right, "-": left - right, "*": left * right}
    if operator == "/":
        assert left % right == 0
        return left // right
    assert operator in "+*" or left >= right
    return results[operator]
