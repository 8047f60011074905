"""Malformed and hostile requests: every one is answered or refused in OpenAI's form.

`make fuzz-endpoint` tries more of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.server.hostile import Hostile, fault_of, requests
from tests.server.upstream import endpoint


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        endpoint(ScriptedServer(mixed_distribution(42))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(requests)
def test_no_request_is_an_internal_error(client: httpx.Client, hostile: Hostile) -> None:
    assert fault_of(client, hostile) is None
