"""The examples of the pages that need a server, on the shared one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import eager_sgl
from eager_sgl import connect
from tests.conftest import API_KEY
from tests.pages import Block, blocks_of

pytestmark = pytest.mark.integration


def on_server(client: Callable[..., object], url: str) -> Callable[..., object]:
    """A client of the shared server, whatever URLs it is given."""
    return lambda servers, **options: client(url, **{"api_key": API_KEY} | options)


@pytest.mark.parametrize("block", [b for b in blocks_of("python") if b.needs_server], ids=str)
def test_it_runs(block: Block, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the shared server in place of the one that the example starts or names."""

    @contextlib.contextmanager
    def runtime(*arguments: Any, **options: Any) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(url=server_url, api_key=API_KEY)

    def connected(url: str, **options: Any) -> eager_sgl.TokenEndpoint:
        return connect(server_url, **{"api_key": API_KEY} | options)

    monkeypatch.setattr(eager_sgl, "EmbeddedRuntime", runtime)
    monkeypatch.setattr(eager_sgl, "connect", connected)
    for name in ("AsyncClient", "Client"):
        monkeypatch.setattr(eager_sgl, name, on_server(getattr(eager_sgl, name), server_url))
    exec(compile(block.text, str(block), "exec"), {"__name__": "page_example"})
