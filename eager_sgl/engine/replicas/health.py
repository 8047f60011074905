"""Whether a replica is up: pings, and what follows when one fails or succeeds again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eager_sgl.engine import limits
from eager_sgl.engine.replicas.lease import Replica
from eager_sgl.errors import ServerError, ServerUnreachableError

__all__ = ["take_down", "watch"]


def take_down(replica: Replica, failure: ServerError) -> None:
    """Place no tree on a replica any more, and notify the trees on it."""
    replica.failure = failure
    for lease in list(replica.leases):
        lease.on_down()


async def watch(replica: Replica, admit: Callable[[Replica], Awaitable[None]]) -> None:
    """Ping a replica for ever.

    Args:
        replica: taken down at the first ping that fails.
        admit: takes it in again, if it is as it must be; called at the first ping that succeeds
            after that.

    A replica that answers and is not admitted stays down for this reason, and is probed again
    after a longer pause: a probe is a number of requests.
    """
    while True:
        await asyncio.sleep(limits.PING_PAUSE)
        if not await replica.transport.is_answering():
            if replica.is_up:
                url = replica.transport.url
                take_down(replica, ServerUnreachableError(f"{url} does not answer"))
            continue
        await _abort_orphans(replica)
        if not replica.is_up and (failure := await _failure_of(admit(replica))):
            replica.failure = failure
            await asyncio.sleep(limits.ADMISSION_PAUSE)


async def _failure_of(admission: Awaitable[None]) -> ServerError | None:
    try:
        await asyncio.wait_for(admission, limits.ADMISSION_TIMEOUT)
    except TimeoutError:
        return ServerUnreachableError(
            f"its probe did not end within {limits.ADMISSION_TIMEOUT:g} s"
        )
    except ServerError as error:
        return error
    return None


async def _abort_orphans(replica: Replica) -> None:
    orphans, replica.orphans = replica.orphans, set()
    notices = (replica.transport.notify("/abort_request", {"rid": rid}) for rid in orphans)
    await asyncio.gather(*notices)
