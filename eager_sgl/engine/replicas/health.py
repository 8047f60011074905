"""Whether a replica is up: pings, and what follows when one fails or succeeds again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eager_sgl.engine import limits
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.replicas.lease import Fleet, Replica
from eager_sgl.errors import ServerError, ServerUnreachableError

__all__ = ["watch"]

Admit = Callable[[Replica], Awaitable[TokenClient]]


async def watch(fleet: Fleet, admit: Admit) -> None:
    """Ping all replicas for ever.

    Args:
        fleet: a replica is taken down at the first ping that fails.
        admit: connects to a replica whose pings succeed again, to take it in; raises `ServerError`
            if it is not as it must be.

    A replica that answers and is not admitted stays down for this reason, and is probed again
    after a longer pause: a probe is a number of requests.
    """
    await asyncio.gather(*(_watch(fleet, replica, admit) for replica in fleet.replicas))


async def _watch(fleet: Fleet, replica: Replica, admit: Admit) -> None:
    while True:
        await asyncio.sleep(limits.PING_PAUSE)
        if not await replica.transport.is_answering():
            if replica.is_up:
                fleet.take_down(replica, ServerUnreachableError("it does not answer"))
            continue
        await _abort_orphans(replica)
        if not replica.is_up:
            await _take_in(fleet, replica, admit)


async def _take_in(fleet: Fleet, replica: Replica, admit: Admit) -> None:
    try:
        async with asyncio.timeout(limits.ADMISSION_TIMEOUT):
            client = await admit(replica)
    except TimeoutError:
        seconds = f"{limits.ADMISSION_TIMEOUT:g} s"
        replica.failure = ServerUnreachableError(f"its probe did not end within {seconds}")
    except ServerError as error:
        replica.failure = error
    else:
        fleet.take_in(replica, client)
        return
    await asyncio.sleep(limits.ADMISSION_PAUSE)


async def _abort_orphans(replica: Replica) -> None:
    """Abort them; those whose notice does not arrive stay for the next ping."""
    orphans, replica.orphans = list(replica.orphans), set()
    notices = (replica.transport.notify("/abort_request", {"rid": rid}) for rid in orphans)
    arrivals = await asyncio.gather(*notices)
    replica.orphans.update(rid for rid, has in zip(orphans, arrivals, strict=True) if not has)
