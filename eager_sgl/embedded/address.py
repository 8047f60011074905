"""The address at which an embedded server listens, and its URL on this machine."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator

from eager_sgl.errors import RuntimeStartError

__all__ = ["DEFAULT_HOST", "reached_at", "reserved_port", "url_of"]

DEFAULT_HOST = "127.0.0.1"
_ALL_ADDRESSES = {"0.0.0.0": DEFAULT_HOST, "::": "::1"}


def reached_at(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    return _ALL_ADDRESSES.get(host, host)


def url_of(host: str, port: int) -> str:
    """The base URL of a server that listens on `host` and `port`."""
    address = reached_at(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


@contextlib.contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """A port that other programs cannot take before the server listens on it.

    Args:
        host: on which the server will listen.
        port: 0 for any free port.

    Raises:
        RuntimeStartError: the server cannot listen on the host and port.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        reservation = socket.socket(family)
    except OSError as error:
        raise _address_error(host, port, error) from error
    with reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind(address)
        except OSError as error:
            raise _address_error(host, port, error) from error
        reserved: int = reservation.getsockname()[1]
        # On Linux two sockets with this option share a port until one listens; elsewhere not.
        if sys.platform != "linux":
            reservation.close()
        yield reserved


def _address_error(host: str, port: int, error: OSError) -> RuntimeStartError:
    advice = "name another port, or leave it out" if port else "name an address of this machine"
    where = f"port {port} of {host}" if port else f"host {host!r}"
    return RuntimeStartError(f"The server cannot listen on {where} ({error.strerror}); {advice}.")
