"""Behind a router, generation goes to it and everything else to one of its replicas."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from eager_sgl.engine.transport import Transport
from eager_sgl.errors import ServerUnreachableError
from evals.config.parse import parse_settings
from evals.execution.methods import METHODS


class Naming(BaseHTTPRequestHandler):
    """Answers with the port that was asked."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"port": self.server.server_port}).encode())  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def ports() -> Iterator[list[int]]:
    servers = [HTTPServer(("127.0.0.1", 0), Naming) for _ in range(2)]
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
    yield [server.server_port for server in servers]
    for server in servers:
        server.shutdown()


def test_generation_alone_goes_through_the_router(ports: list[int]) -> None:
    replica, router = ports
    transport = Transport(f"http://127.0.0.1:{replica}", router=f"http://127.0.0.1:{router}/")
    assert transport.post("/generate", dict) == {"port": router}
    for path in ("/tokenize", "/detokenize"):
        assert transport.post(path, dict) == {"port": replica}
    assert transport.get("/model_info") == {"port": replica}


def test_a_router_that_is_not_there_is_named(ports: list[int]) -> None:
    transport = Transport(f"http://127.0.0.1:{ports[0]}", router="http://127.0.0.1:9")
    with pytest.raises(ServerUnreachableError, match=r"http://127\.0\.0\.1:9"):
        transport.post("/generate", dict)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--router", "http://r"], "--router needs --server, the URL of one of its replicas"),
        (["--server", "http://s", "--router", "r:1"], "it must start with http:// or https://"),
    ],
)
def test_a_router_needs_a_replica(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_settings(arguments, METHODS)
    assert message in capsys.readouterr().err
