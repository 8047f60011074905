"""Code is run only where it can be isolated; elsewhere these tests say why they do not run."""

import pytest

from evals.grading.programs.sandbox import IsolationError, require_isolation


@pytest.fixture(scope="session")
def isolation() -> None:
    try:
        require_isolation()
    except IsolationError as error:
        pytest.skip(str(error))
