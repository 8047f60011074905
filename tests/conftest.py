"""The SGLang server that all integration tests share, and the scripted server of the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from eager_sgl import EmbeddedRuntime, TokenEndpoint, connect
from tests.fakes.scripted import ScriptedServer, mixed_distribution

API_KEY = "the-key-of-the-tests"
REASONER = Path(__file__).parents[1] / "evals" / "reasoner" / "model"

# How long an example takes depends on what else runs.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in a hook of this name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests that a process of pytest-xdist runs together, the longest group first.

    All tests on the shared server are a group; so are the other tests of a file, which may share
    fixtures.
    """
    for item in items:
        group = "server" if _on_server(item) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: (not _on_server(item), not item.get_closest_marker("integration")))


def _on_server(item: pytest.Item) -> bool:
    return "server_url" in getattr(item, "fixturenames", ())


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
