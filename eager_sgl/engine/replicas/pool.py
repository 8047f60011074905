"""The servers of one client: `Replicas`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self, TypeVar

from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.gate.choice import GateChoice
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.replicas.agreement import Agreement
from eager_sgl.engine.replicas.health import watch
from eager_sgl.engine.replicas.lease import Fleet, Lease, Replica
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import ServerError, ServerUnreachableError

__all__ = ["Replicas"]

_T = TypeVar("_T")
_Connect = Callable[[Transport], Awaitable[TokenClient]]


class Replicas:
    """The servers of one client, all with the same model.

    With one server there is no monitor, and nothing is ever down: errors of requests are raised as
    they are. With more, every server is pinged every two seconds. One that does not answer in time
    is down: `on_down` of the leases on it is called at once, and no tree is placed on it. When it
    answers again, requests that were left running on it are aborted, its facts and weights are
    probed, and it is taken in.

    Belongs to the event loop that connected it; not safe to use from other threads.
    """

    def __init__(
        self, fleet: Fleet, profile: ServerProfile, monitor: asyncio.Task[None] | None = None
    ) -> None:
        self._fleet, self._profile, self._monitor = fleet, profile, monitor

    @classmethod
    def of(cls, client: TokenClient) -> Self:
        """The only server of a client."""
        return cls(Fleet([Replica(client.transport, client)]), client.profile)

    @classmethod
    async def connect(
        cls,
        transports: Sequence[Transport],
        chat_options: Mapping[str, object] | None = None,
        gate: GateChoice = "auto",
    ) -> Self:
        """Connect to all servers at once.

        Servers that do not answer are `down`, and tried again while the client lives; one must
        answer.

        Args:
            transports: at least one, to different servers; their owner closes them.
            chat_options, gate: as of `TokenClient.connect`.

        Raises:
            ServerUnreachableError: none answers; names them all.
            ServerUnsuitableError: one is unsuitable, or serves other weights than the first.
            ServerError: one refuses, for example the API key.
            ValueError: a server is named twice, or there is none.
        """
        _require_distinct([transport.url for transport in transports])

        async def connect(transport: Transport) -> TokenClient:
            return await TokenClient.connect(transport, chat_options, gate)

        if len(transports) == 1:
            return cls.of(await connect(transports[0]))
        fleet = Fleet([Replica(transport) for transport in transports])
        agreement = await Agreement.of(await _contact_all(fleet, connect))

        async def admit(replica: Replica) -> TokenClient:
            # Anew: it may have been restarted with other options.
            client = await connect(replica.transport)
            await agreement.admit(client)
            return client

        monitor = asyncio.create_task(watch(fleet, admit))
        return cls(fleet, agreement.profile, monitor)

    @property
    def profile(self) -> ServerProfile:
        """What all servers have in common: the smallest context; a gate if all have it."""
        return self._profile

    @property
    def down(self) -> dict[str, ServerError]:
        """The servers that are down, by URL, and why."""
        return {r.url: r.failure for r in self._fleet.replicas if r.failure is not None}

    def lease(self, expected_tokens: int, on_down: Callable[[], None] = lambda: None) -> Lease:
        """A tree's place on the server that is up and has the least outstanding tokens.

        See `Lease` for the arguments; its holder closes it.
        """
        return Lease(self._fleet, expected_tokens, on_down)

    async def call(self, operation: Callable[[TokenClient], Awaitable[_T]]) -> _T:
        """The result of an operation on any server; on another one if the first does not answer.

        Args:
            operation: may be repeated, such as a request for a fact of the model.

        Raises:
            ServerUnreachableError: no server answers.
            ServerError: of the operation.
        """
        lease = self.lease(1)
        try:
            return await lease.call(operation)
        finally:
            lease.close()

    async def aclose(self) -> None:
        """End the monitor; the transports stay open."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.cancel()
            await asyncio.wait({monitor})
        if monitor is not None and not monitor.cancelled():
            monitor.result()


async def _contact_all(fleet: Fleet, connect: _Connect) -> list[TokenClient]:
    """The clients of the servers that answer; at least one."""
    contacts = (_contact(replica, connect) for replica in fleet.replicas)
    for error in await asyncio.gather(*contacts, return_exceptions=True):
        if error is not None:
            raise error
    clients = [replica.client for replica in fleet.replicas if replica.client is not None]
    if not clients:
        raise ServerUnreachableError(f"no server answers: {fleet.failures}")
    return clients


async def _contact(replica: Replica, connect: _Connect) -> None:
    """Connect to a replica, or note that it is down."""
    try:
        replica.client = await connect(replica.transport)
    except ServerError as error:
        # A gateway answers for a server that is down, with 502 or 503.
        is_unreachable = isinstance(error, ServerUnreachableError)
        if not is_unreachable and await replica.transport.is_answering():
            raise
        replica.failure = error
        replica.has_failed.set()


def _require_distinct(urls: Sequence[str]) -> None:
    if not urls:
        raise ValueError("there is no server; give at least one URL")
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"server {url} is named {urls.count(url)} times; name each one once")
