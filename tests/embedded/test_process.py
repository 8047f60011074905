"""The clause on a process of the server that has died."""

from typing import Any

import pytest

from eager_sgl.embedded.process import _death


class Child:
    """A dead process whose exit code another thread sets while this one waits."""

    def __init__(self, exit_code: int) -> None:
        self._codes = [None, None, exit_code]

    @property
    def exitcode(self) -> int | None:
        return self._codes.pop(0) if len(self._codes) > 1 else self._codes[0]


@pytest.mark.parametrize(
    ("exit_code", "title", "clause"),
    [
        (-9, "scheduler", "the scheduler died (signal 9)"),
        (1, "", "a process of the server died (exit code 1)"),
        (0, "detokenizer", "the detokenizer died (exit code 0)"),
        (0, "", None),
    ],
)
def test_a_death_is_named_with_its_exit_code(
    exit_code: int, title: str, clause: str | None
) -> None:
    child: Any = Child(exit_code)
    assert _death(child, title) == clause
