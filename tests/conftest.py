"""The SGLang server that all integration tests share, and the scripted server of the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from eager_sgl import EmbeddedRuntime, TokenEndpoint, connect
from tests.fakes.scripted import ScriptedServer, mixed_distribution

API_KEY = "the-key-of-the-tests"
INTEGRATION = "tests/integration/"
REASONER = Path(__file__).parents[1] / "evals" / "reasoner" / "model"

# How long an example takes depends on what else runs.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that a process of pytest-xdist runs together: all of `integration`, or of a file.

    The former share a server, the latter may share fixtures.
    """

    def _split_scope(self, nodeid: str) -> str:
        return INTEGRATION if nodeid.startswith(INTEGRATION) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the shared server, which takes longest.

    Other servers start later: without bytecode, two that start together compile SGLang twice.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(INTEGRATION))


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded runtime with the bundled reasoner, seeded, behind an API key."""
    log_path = tmp_path_factory.mktemp("runtime") / "runtime.log"
    server_args = {"random_seed": 0, "api_key": API_KEY}
    os.environ["EAGER_SGL_API_KEY"] = API_KEY  # for the commands that tests start
    with EmbeddedRuntime(REASONER, log_path=log_path, server_args=server_args) as runtime:
        yield runtime.url


@pytest.fixture(scope="session")
def endpoint(server_url: str) -> TokenEndpoint:
    return connect(server_url, api_key=API_KEY)


@pytest.fixture
def scripted() -> ScriptedServer:
    return ScriptedServer(mixed_distribution(42))
