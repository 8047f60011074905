"""The examples of the pages that need a server, on the shared one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import eager_sgl
from tests.conftest import API_KEY
from tests.pages import Block, blocks_of

pytestmark = pytest.mark.integration

HOSTS = "127.0.0.1", "localhost"
"""Names of this machine, so that the shared server is several for examples that name several."""


@pytest.mark.parametrize("block", [b for b in blocks_of("python") if b.needs_server], ids=str)
def test_it_runs(
    block: Block, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file, as SGLang wants it, with the shared server in place of those it names."""

    @contextlib.contextmanager
    def runtime(*arguments: Any, **options: Any) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(url=server_url, api_key=API_KEY)

    monkeypatch.setattr(eager_sgl, "EmbeddedRuntime", runtime)
    for name in ("AsyncClient", "Client", "connect"):
        monkeypatch.setattr(eager_sgl, name, on_server(getattr(eager_sgl, name), server_url))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "page_example", raising=False)
    (tmp_path / "page_example.py").write_text(block.text)
    result = getattr(import_module("page_example"), "result", None)
    sys.modules.pop("page_example")
    assert result is None or result.sequences


def on_server(client: Callable[..., object], url: str) -> Callable[..., object]:
    """A client of the shared server, whatever URLs it is given."""
    host = HOSTS[0]
    assert host in url, f"the shared server is {url}, not on {host}"

    def connected(servers: str | Sequence[str], **options: Any) -> object:
        given = options | {"api_key": API_KEY}
        if isinstance(servers, str):
            return client(url, **given)
        names = HOSTS[: len(servers)]
        assert len(names) == len(servers), f"{servers} are more than the names of this machine"
        return client([url.replace(host, name) for name in names], **given)

    return connected
