"""The process that all runs of `evals/run.py` on the shared server are forks of."""

from collections.abc import Iterator

import pytest

from tests.integration.driver import Driver


@pytest.fixture(scope="session")
def driver(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Starts runs; the shared server runs before, which puts its API key in the environment."""
    driver = Driver(tmp_path_factory.mktemp("driver"))
    yield driver
    driver.close()
