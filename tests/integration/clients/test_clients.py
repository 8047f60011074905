"""Every case of every client, and every example of docs/serving.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.clients.features.endpoint import Endpoint
from tests.integration.clients.results import CLIENTS, COMMANDS, command_results, results_of

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_all_of_its_features(client: str, asked: Endpoint, tmp_path: Path) -> None:
    results = results_of(client, asked, tmp_path)
    assert len(results) >= 4
    assert not [result for result in results if result.error]


def test_commands_of_the_page_succeed(asked: Endpoint, tmp_path: Path) -> None:
    results = command_results(asked, tmp_path)
    assert {result.client for result in results} == set(COMMANDS.values())
    assert not [result for result in results if result.error]
