"""The endpoint in front of the shared server, for all clients."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from eager_sgl.server.app import create_app
from eager_sgl.server.settings import EndpointSettings
from tests.conftest import API_KEY
from tests.integration.clients.environment import clients_bin
from tests.integration.clients.features.endpoint import Endpoint
from tests.server.upstream import listening


@pytest.fixture(scope="session")
def asked(server_url: str) -> Iterator[Endpoint]:
    """The endpoint; skips where the clients cannot be installed, except in CI."""
    try:
        clients_bin()
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the clients cannot be installed: {error}")
    with listening(create_app(EndpointSettings(servers=(server_url,), server_key=API_KEY))) as url:
        yield Endpoint(url, httpx.get(f"{url}/v1/models").json()["data"][0]["id"])
