"""Tests that run code are skipped, with the reason, where code cannot be isolated."""

import pytest

from evals.grading.programs import IsolationError, require_isolation


@pytest.fixture(scope="session")
def isolation() -> None:
    try:
        require_isolation()
    except IsolationError as error:
        pytest.skip(str(error))
