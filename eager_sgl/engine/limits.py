"""Timeouts of requests, and how often a request is tried.

The timeouts are in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "ABORT_TIMEOUT",
    "ADMISSION_PAUSE",
    "ADMISSION_TIMEOUT",
    "ALIVE_TIMEOUT",
    "CLOSE_TIMEOUT",
    "CONNECTING",
    "CONNECT_TIMEOUT",
    "FIRST_CONTACT",
    "NOTIFY_TIMEOUT",
    "ONCE",
    "OUTAGE_TIMEOUT",
    "PATIENT",
    "PAUSE_JITTER",
    "PING_PAUSE",
    "PROBE",
    "REQUEST_TIMEOUT",
    "ROUTER_ABORT_TIMEOUT",
    "ROUTER_STREAM_INTERVAL",
    "SILENCE_TIMEOUT",
    "SMALL_TIMEOUT",
    "UNREPEATED",
    "Patience",
]

REQUEST_TIMEOUT = 3600.0
"""A sequence's last request may decode tens of thousands of tokens before it answers."""
SILENCE_TIMEOUT = 600.0
"""Without a stream a request is silent until it has ended, and with a gate between two reports. Ten
minutes are long for a chunk and short for a whole sequence, whose request then ends early, unless
the server answers others meanwhile, and is followed by another for the rest, which the radix cache
serves."""
SMALL_TIMEOUT = 20.0
"""For a route that generates nothing, such as /tokenize of a long text on a busy server."""
CONNECT_TIMEOUT = 10.0
ABORT_TIMEOUT = 10.0
"""For the answer of a request that was aborted after a timeout."""
ROUTER_ABORT_TIMEOUT = 0.25
"""Behind a router, for the answer of a request that was aborted at one replica, before its
connection is closed."""
ROUTER_STREAM_INTERVAL = 256
"""Tokens between two parts of an answer behind a router, where an abort keeps the last part."""
NOTIFY_TIMEOUT = 2.0
"""For a notice such as /abort_request, whose answer is not used."""
ALIVE_TIMEOUT = 5.0
"""For the check that a server is up."""
PING_PAUSE = 2.0
"""Between two checks that one of several servers is up. One that hangs is down after
PING_PAUSE + ALIVE_TIMEOUT at the latest."""
ADMISSION_TIMEOUT = 600.0
"""For probing a server that answers again, whose queue may be long."""
ADMISSION_PAUSE = 10.0
"""Before the next probe of a server that was not admitted."""
OUTAGE_TIMEOUT = 32.0
"""For one of several servers to answer again when all are down: as long as `PATIENT` waits."""
CLOSE_TIMEOUT = 2.0
"""For closing the connections at exit."""
PAUSE_JITTER = (0.75, 1.25)
"""Bounds of a pause's random factor, so that a batch's requests are not repeated all at once."""


@dataclass(frozen=True)
class Patience:
    """How often a request is tried.

    Attributes:
        pauses: seconds before each further try, before jitter.
        timeout: of one try; None for the timeouts of its route.
        redraws: whether it is tried again after a timeout. Not for a request that draws tokens:
            the next draw would be biased towards short answers.
    """

    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    timeout: float | None = None
    redraws: bool = True

    def jittered_pauses(self) -> Iterator[float | None]:
        """The pause after each try; None after the last one."""
        for pause in self.pauses:
            yield pause * random.uniform(*PAUSE_JITTER)
        yield None


PATIENT = Patience()
"""About half a minute: as long as a server or a gateway takes to restart."""
UNREPEATED = Patience(redraws=False)
FIRST_CONTACT = Patience((0.2, 0.5, 1.0), timeout=4.0)
"""A mistyped URL is reported after 18 s at the latest."""
ONCE = Patience((), timeout=ALIVE_TIMEOUT)
PROBE = Patience(timeout=60.0)
"""For requests of a few tokens to a server in use."""
CONNECTING = Patience(timeout=300.0, redraws=False)
"""For those of connecting, which wait for their turn on a server that is busy with others. A
further try would wait at the end of its queue again."""
