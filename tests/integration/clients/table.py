"""`make clients`: a table of what every client does with the endpoint, on the bundled model.

With names, `make clients ARGS="openai curl"`, those alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from eager_sgl import EmbeddedRuntime
from eager_sgl.server.app import create_app
from eager_sgl.server.settings import EndpointSettings
from tests.conftest import REASONER
from tests.integration.clients.environment import VERSIONS
from tests.integration.clients.features.endpoint import Endpoint
from tests.integration.clients.results import CLIENTS, Result, command_results, results_of
from tests.server.upstream import listening


def main() -> int:
    """Print the table.

    Returns:
        The exit status: 1 if a client failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with EmbeddedRuntime(REASONER, log_path=folder / "runtime.log") as runtime:
            settings = EndpointSettings(servers=(runtime.url,), server_key=runtime.api_key)
            with listening(create_app(settings)) as url:
                model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
                results = _results(Endpoint(url, model), folder)
    Console(width=160).print(_table(results))
    return int(any(result.error for result in results))


def _results(endpoint: Endpoint, folder: Path) -> list[Result]:
    wanted = sys.argv[1:] or [*CLIENTS, "curl"]
    results = []
    for client in [client for client in CLIENTS if client in wanted]:
        started = time.monotonic()
        results += results_of(client, endpoint, folder)
        print(f"{client}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return results + command_results(endpoint, folder, wanted)


def _table(results: list[Result]) -> Table:
    table = Table("client", "version", "feature", "result")
    for result in results:
        version = VERSIONS.get(result.client, "")
        table.add_row(result.client, version, result.feature, result.error or "works")
    return table


if __name__ == "__main__":
    sys.exit(main())
