"""Small HTTP servers for tests: canned replies, streams, hangs, and a scripted SGLang."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import orjson

from eager_sgl.errors import RequestRejectedError
from tests.fakes.scripted import ScriptedServer

ABORT = "/abort_request"


class Seen(NamedTuple):
    """A request that a server received."""

    path: str
    body: Any
    client_port: int
    key: str | None


class Handler(BaseHTTPRequestHandler):
    """A handler that reads bodies and writes no log; subclasses define `reply`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        request = self._seen()
        if request.path == ABORT:
            self.abort(request)
            self.send(200, b"")
        else:
            self.reply(request)

    def abort(self, request: Seen) -> None:
        pass

    def reply(self, request: Seen) -> None:
        raise NotImplementedError

    def _seen(self) -> Seen:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return Seen(
            self.path,
            orjson.loads(body) if body else None,
            self.client_address[1],
            self.headers.get("Authorization"),
        )

    def send(
        self, status: int, data: bytes, kind: str = "application/json", length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(data)

    def hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


class Listener(ThreadingHTTPServer):
    """Threads that serve; many clients may connect at once, without a second for each retry."""

    daemon_threads = True
    request_queue_size = 128


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """The URL of a server with a handler."""
    server = Listener(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving(
    *replies: tuple[int | None, str], delay: float = 0.0, kind: str = "application/json"
) -> Iterator[tuple[str, list[Seen]]]:
    """A server that sends (status, body) replies in turn, and repeats the last.

    Status None hangs up. Aborts are answered at once, and are among the requests that it returns.
    """
    left, seen = list(replies), []

    class Server(Handler):
        def abort(self, request: Seen) -> None:
            seen.append(request)

        def reply(self, request: Seen) -> None:
            seen.append(request)
            status, content = left.pop(0) if len(left) > 1 else left[0]
            if status is None:
                self.hang_up()
                return
            threading.Event().wait(delay)
            self.send(status, content.encode(), kind)

    with listening(Server) as url:
        yield url, seen


@contextmanager
def streaming(*pieces: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A server that sends a stream in pieces, and closes the connection after the last.

    Yields the URL and a function that acknowledges a piece; the next piece is sent after that.
    """
    acknowledged = threading.Semaphore(1)

    class Server(Handler):
        protocol_version = "HTTP/1.0"

        def reply(self, request: Seen) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.end_headers()
            for piece in pieces:
                assert acknowledged.acquire(timeout=10)
                self.wfile.write(piece.encode())

    with listening(Server) as url:
        yield url, acknowledged.release


@contextmanager
def hanging() -> Iterator[str]:
    """A server that accepts connections, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


Spoil = Callable[[str, bytes], bytes | None]
"""(path, answer) -> another body, or None to keep the answer."""


@contextmanager
def scripted_sglang(
    server: ScriptedServer, spoil: Spoil = lambda path, data: None, port: int = 0
) -> Iterator[str]:
    """A scripted server over HTTP; `spoil` may replace its answers."""

    class Server(Handler):
        def reply(self, request: Seen) -> None:
            try:
                data = json.dumps(server.answer(request.path, request.body)).encode()
            except RequestRejectedError as error:
                self.send(400, json.dumps({"error": {"message": str(error)}}).encode())
            else:
                spoilt = spoil(request.path, data)
                self.send(200, data if spoilt is None else spoilt)

    with listening(Server, port) as url:
        yield url
