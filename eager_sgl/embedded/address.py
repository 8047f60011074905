"""Where an embedded server listens, and where this machine reaches it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
from collections.abc import Iterator

from eager_sgl.errors import RuntimeStartError

__all__ = ["DEFAULT_HOST", "is_healthy", "reached_at", "reserved_port", "url_of"]

DEFAULT_HOST = "127.0.0.1"
_ALL_ADDRESSES = {"0.0.0.0": DEFAULT_HOST, "::": "::1"}


def reached_at(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    return _ALL_ADDRESSES.get(host, host)


def url_of(host: str, port: int) -> str:
    """The base URL of a server that listens there."""
    address = reached_at(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def is_healthy(host: str, port: int) -> bool:
    """Whether a server that listens there is ready."""
    connection = http.client.HTTPConnection(reached_at(host), port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """A port, kept from other programs while the server has yet to listen on it; a free one for 0.

    Raises:
        RuntimeStartError: the server could not listen there.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        reservation = socket.socket(family)
    except OSError as error:
        raise _no_address(host, port, error) from error
    with reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind(address)
        except OSError as error:
            raise _no_address(host, port, error) from error
        reserved: int = reservation.getsockname()[1]
        # On Linux two sockets with this option share a port until one listens; elsewhere not.
        if sys.platform != "linux":
            reservation.close()
        yield reserved


def _no_address(host: str, port: int, error: OSError) -> RuntimeStartError:
    advice = "name another port, or leave it out" if port else "name an address of this machine"
    where = f"port {port} of {host}" if port else f"host {host!r}"
    return RuntimeStartError(f"The server cannot listen on {where} ({error.strerror}); {advice}.")
