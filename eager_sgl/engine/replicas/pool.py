"""The servers of one client: which of them a tree lives on, and which of them are up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from eager_sgl.engine import limits
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.replicas.agreement import Agreement
from eager_sgl.engine.replicas.health import take_down, watch
from eager_sgl.engine.replicas.lease import Lease, Replica
from eager_sgl.engine.replicas.servers import TokenClient, Transport
from eager_sgl.errors import ServerError, ServerUnreachableError

__all__ = ["Replicas"]

_T = TypeVar("_T")

Connect = Callable[[Transport], Awaitable[TokenClient]]


class Replicas:
    """The servers of one client, all with the same model; `connect` builds it.

    With one server there is no monitor, and nothing is ever down: errors of requests are raised as
    they are. With more, every server is pinged every two seconds. One that does not answer in time
    is down: `on_down` of the leases on it is called at once, and no tree is placed on it. When it
    answers again, requests that were left running on it are aborted, its facts and weights are
    probed, and it is taken in.

    Belongs to the event loop that connected it; not safe to use from other threads.
    """

    def __init__(
        self, replicas: Sequence[Replica], agreement: Agreement | None, connect: Connect
    ) -> None:
        self._replicas, self._agreement, self._connect = replicas, agreement, connect
        self._has_recovered = asyncio.Event()
        self._monitor: asyncio.Task[object] | None = None
        if agreement is not None:
            self._monitor = asyncio.create_task(self._watch_all())

    @classmethod
    async def connect(cls, transports: Sequence[Transport], connect: Connect) -> Replicas:
        """Connect to all servers at once.

        Servers that do not answer are `down`, and tried again while the client lives; one must
        answer.

        Args:
            transports: at least one, to different servers.
            connect: to one of them.

        Raises:
            ServerUnreachableError: none answers; names them all.
            ServerUnsuitableError: one is unsuitable, or serves other weights than the first.
            ServerError: one refuses, for example the API key.
            ValueError: a server is named twice, or there is none.
        """
        _require_distinct([transport.url for transport in transports])
        replicas = [Replica(transport) for transport in transports]
        if len(replicas) == 1:
            replicas[0].client = await connect(replicas[0].transport)
            return cls(replicas, None, connect)
        contacts = (_contact(replica, connect) for replica in replicas)
        for error in await asyncio.gather(*contacts, return_exceptions=True):
            if error is not None:
                raise error
        clients = [replica.client for replica in replicas if replica.client is not None]
        if not clients:
            raise ServerUnreachableError(f"no server answers: {_reasons(replicas)}")
        return cls(replicas, await Agreement.of(clients), connect)

    @property
    def profile(self) -> ServerProfile:
        """What all servers have in common: the smallest context; a gate if all have it."""
        if self._agreement is not None:
            return self._agreement.profile
        client = self._replicas[0].client
        assert client is not None, "the only server was connected"
        return client.profile

    @property
    def down(self) -> dict[str, ServerError]:
        """The servers that are down, by URL, and why."""
        return {r.transport.url: r.failure for r in self._replicas if r.failure is not None}

    def lease(self, expected_tokens: int, on_down: Callable[[], None] = lambda: None) -> Lease:
        """A place for a tree: the server that is up and has the least outstanding tokens.

        Entering it waits half a minute for a server if all are down, and raises
        `ServerUnreachableError` after that. See `Lease` for the arguments.
        """
        return Lease(self._least_loaded, expected_tokens, on_down)

    async def _least_loaded(self) -> Replica:
        """The replica that is up and has the least load; ties go to the first."""
        if len(self._replicas) == 1:
            return self._replicas[0]
        up = [replica for replica in self._replicas if replica.is_up]
        if not up:
            await self._recovery()
            return await self._least_loaded()
        return min(up, key=lambda replica: replica.load)

    async def _recovery(self) -> None:
        """Wait until a replica is up again."""
        self._has_recovered.clear()
        try:
            async with asyncio.timeout(limits.OUTAGE_TIMEOUT):
                await self._has_recovered.wait()
        except TimeoutError:
            raise ServerUnreachableError(
                f"no server answers, for {limits.OUTAGE_TIMEOUT:g} s: {_reasons(self._replicas)}"
            ) from None

    async def call(self, operation: Callable[[TokenClient], Awaitable[_T]]) -> _T:
        """The result of an operation on any server; on another one if the first does not answer.

        Args:
            operation: may be repeated, such as a request for a fact of the model.

        Raises:
            ServerUnreachableError: no server answers.
            ServerError: of the operation.
        """
        failures: list[ServerUnreachableError] = []
        while len(failures) < len(self._replicas):
            async with self.lease(1) as lease:
                client = lease.client
                try:
                    return await self._unless_down(lease, operation(client))
                except ServerUnreachableError as error:
                    failures.append(error)
                    self.report(client, error)
        raise failures[-1]

    async def _unless_down(self, lease: Lease, operation: Awaitable[_T]) -> _T:
        """The result of an operation, given up as soon as its server is down."""
        if self._monitor is None:
            return await operation
        is_down = asyncio.Event()
        lease.on_down = is_down.set
        work = asyncio.ensure_future(operation)
        failure = asyncio.ensure_future(is_down.wait())
        try:
            await asyncio.wait({work, failure}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ServerUnreachableError(f"{lease.client.transport.url} does not answer")
            return work.result()
        finally:
            work.cancel()
            failure.cancel()

    async def aclose(self) -> None:
        """End the monitor; further calls do nothing."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.cancel()
            await asyncio.wait({monitor})
            if not monitor.cancelled():
                monitor.result()

    # Health

    def report(self, client: TokenClient, error: ServerError) -> None:
        """Report that a request failed for its server's fault, which is then down.

        Args:
            client: that sent the request; one of before a restart is ignored.
            error: of the request.
        """
        if self._monitor is None:
            return
        for replica in self._replicas:
            if replica.client is client and replica.is_up:
                take_down(replica, error)

    async def _watch_all(self) -> None:
        await asyncio.gather(*(watch(replica, self._admit) for replica in self._replicas))

    async def _admit(self, replica: Replica) -> None:
        """Connect to a replica anew: it may have been restarted with other options."""
        assert self._agreement is not None, "several replicas have agreed"
        client = await self._connect(replica.transport)
        await self._agreement.admit(client)
        replica.client, replica.failure = client, None
        self._has_recovered.set()


async def _contact(replica: Replica, connect: Connect) -> None:
    """Connect to a replica, or note that it is down."""
    try:
        replica.client = await connect(replica.transport)
    except ServerError as error:
        # An overloaded gateway answers for a server that is down, with 502 or 503.
        is_unreachable = isinstance(error, ServerUnreachableError)
        if not is_unreachable and await replica.transport.is_answering():
            raise
        replica.failure = error


def _reasons(replicas: Sequence[Replica]) -> str:
    return "; ".join(f"{r.transport.url}: {r.failure}" for r in replicas)


def _require_distinct(urls: Sequence[str]) -> None:
    if not urls:
        raise ValueError("there is no server; give at least one URL")
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"server {url} is named {urls.count(url)} times; name each one once")
