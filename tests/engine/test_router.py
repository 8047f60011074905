"""With a router, requests for tokens are sent to it and all others to a replica."""

import json
from collections.abc import Iterator

import pytest

from eager_sgl.engine.loop import run
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import ServerUnreachableError
from evals.config.parse import parse_settings
from evals.execution.methods import METHODS
from tests.fakes.http_server import Handler, Seen, listening


class Naming(Handler):
    """Answers with its port."""

    def reply(self, request: Seen) -> None:
        port = self.connection.getsockname()[1]
        self.send(200, json.dumps({"port": port}).encode())


@pytest.fixture
def urls() -> Iterator[tuple[str, str]]:
    """Of a replica and a router."""
    with listening(Naming) as replica, listening(Naming) as router:
        yield replica, router


def test_generation_alone_goes_through_the_router(urls: tuple[str, str]) -> None:
    replica, router = (int(url.rpartition(":")[2]) for url in urls)
    transport = Transport(urls[0], router=f"{urls[1]}/")
    assert run(transport.post("/generate", dict)) == {"port": router}
    for path in ("/tokenize", "/detokenize"):
        assert run(transport.post(path, dict)) == {"port": replica}
    assert run(transport.get("/model_info")) == {"port": replica}


def test_an_unreachable_router_is_named(urls: tuple[str, str]) -> None:
    transport = Transport(urls[0], router="http://127.0.0.1:9")
    with pytest.raises(ServerUnreachableError, match=r"http://127\.0\.0\.1:9"):
        run(transport.post("/generate", dict))


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
