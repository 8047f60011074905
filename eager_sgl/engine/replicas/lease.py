"""Which replica a tree lives on: `Replica`, the `Fleet` of them, and the `Lease` of a tree."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from eager_sgl.engine import limits
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.loop import leave
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import ServerError, ServerUnreachableError

__all__ = ["Fleet", "Lease", "Replica"]

_T = TypeVar("_T")


@dataclass(eq=False)
class Replica:
    """One of the servers of a client.

    Attributes:
        transport: sends its requests.
        client: None until the server has answered for the first time.
        failure: why the server is down; None while it is up.
        leases: of the trees on it, in the order in which they came.
        orphans: ids of requests that may still run on it, though nobody waits for them.
        has_failed: set while the server is down.
    """

    transport: Transport
    client: TokenClient | None = None
    failure: ServerError | None = None
    leases: dict[Lease, None] = field(default_factory=dict)
    orphans: set[str] = field(default_factory=set)
    has_failed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The server's base URL."""
        return self.transport.url

    @property
    def is_up(self) -> bool:
        """Whether trees may be placed on it."""
        return self.failure is None

    @property
    def load(self) -> int:
        """Tokens that its trees wait for."""
        return sum(lease.load for lease in self.leases)


class Fleet:
    """The servers of a client: which are up, and which of them has the least load."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = tuple(replicas)
        self._has_recovered = asyncio.Event()

    @property
    def has_one_server(self) -> bool:
        """Whether there is no other server to continue on."""
        return len(self.replicas) == 1

    @property
    def failures(self) -> str:
        """Why the servers are down."""
        return "; ".join(f"{r.url}: {r.failure}" for r in self.replicas if r.failure)

    def least_loaded(self) -> Replica:
        """The replica that is up and has the least load, ties to the first.

        If none is up, one that is down.
        """
        if self.has_one_server:
            return self.replicas[0]
        connected = [replica for replica in self.replicas if replica.client is not None]
        up = [replica for replica in connected if replica.is_up]
        return min(up or connected, key=lambda replica: replica.load)

    async def wait_for_any(self) -> None:
        """Wait until a replica is up.

        Raises:
            ServerUnreachableError: half a minute has passed; names all servers.
        """
        try:
            async with asyncio.timeout(limits.OUTAGE_TIMEOUT):
                while not any(replica.is_up for replica in self.replicas):
                    self._has_recovered.clear()
                    await self._has_recovered.wait()
        except TimeoutError:
            raise ServerUnreachableError(
                f"no server has answered for {limits.OUTAGE_TIMEOUT:g} s: {self.failures}"
            ) from None

    def take_down(self, replica: Replica, failure: ServerError) -> None:
        """Place no tree on a replica any more, and notify the trees on it."""
        replica.failure = failure
        replica.has_failed.set()
        for lease in list(replica.leases):
            lease.on_down()

    def take_in(self, replica: Replica, client: TokenClient) -> None:
        """Place trees on a replica again."""
        replica.client, replica.failure = client, None
        replica.has_failed.clear()
        self._has_recovered.set()


class Lease:
    """The place of a tree on a replica, and its share of the replica's load.

    Args:
        fleet: the least loaded of its replicas is chosen.
        expected_tokens: that the tree will ask for, at least 1; its load while it has no request.
        on_down: called when the replica fails, from the event loop, which it must not block. The
            tree then cancels its requests and awaits `move`. Called soon if no server is up.

    Raises:
        ValueError: fewer tokens than 1 are expected.
    """

    def __init__(
        self,
        fleet: Fleet,
        expected_tokens: int,
        on_down: Callable[[], None] = lambda: None,
    ) -> None:
        if expected_tokens < 1:
            raise ValueError(f"expected_tokens is {expected_tokens}; it must be at least 1")
        self.on_down = on_down
        self._fleet, self._expected, self._outstanding = fleet, expected_tokens, 0
        self._replica = fleet.least_loaded()
        self._replica.leases[self] = None
        if not self._replica.is_up:
            asyncio.get_running_loop().call_soon(on_down)

    @property
    def client(self) -> TokenClient:
        """The client of the tree's replica; another one after `move`."""
        assert self._replica.client is not None, "a replica is chosen once it has answered"
        return self._replica.client

    @property
    def load(self) -> int:
        """Tokens that were asked for and have not arrived; the expected ones without a request."""
        return self._outstanding or self._expected

    @property
    def outstanding(self) -> int:
        """Tokens that were asked for and have not arrived."""
        return self._outstanding

    def add(self, tokens: int) -> None:
        """Count tokens that a request asks for."""
        assert tokens >= 0, f"a request asks for {tokens} tokens"
        self._outstanding += tokens

    def remove(self, tokens: int) -> None:
        """Count tokens that have arrived, or that no request asks for any more."""
        assert 0 <= tokens <= self._outstanding, f"{tokens} of {self._outstanding} tokens arrived"
        self._outstanding -= tokens

    def report(self, error: Exception) -> bool:
        """Report the error of a request to `client`; a server that did not answer is then down.

        Returns:
            Whether the tree can `move` after this error.
        """
        if self._fleet.has_one_server or not isinstance(error, ServerUnreachableError):
            return False
        if self._replica.is_up:
            self._fleet.take_down(self._replica, error)
        return True

    async def move(self, running: Iterable[str] = ()) -> None:
        """Live on the least loaded replica that is up, after a failure.

        Args:
            running: ids of the tree's requests that may still run on the old replica; they are
                aborted as soon as it answers.

        Raises:
            ServerUnreachableError: none is up, and none came up again within half a minute.
        """
        self._replica.orphans.update(running)
        self.close()
        await self._fleet.wait_for_any()
        self._replica = self._fleet.least_loaded()
        self._replica.leases[self] = None

    async def call(self, operation: Callable[[TokenClient], Awaitable[_T]]) -> _T:
        """The result of an operation that may be repeated, on another replica if this one fails.

        Raises:
            ServerUnreachableError: no server answers.
            ServerError: of the operation.
        """
        for _ in self._fleet.replicas[1:]:
            try:
                return await self._unless_down(operation)
            except ServerUnreachableError as error:
                self.report(error)
                await self.move()
        return await self._unless_down(operation)

    async def _unless_down(self, operation: Callable[[TokenClient], Awaitable[_T]]) -> _T:
        """The result of an operation, given up as soon as its server is down."""
        if self._fleet.has_one_server:
            return await operation(self.client)
        replica = self._replica
        work = asyncio.ensure_future(operation(self.client))
        failure = asyncio.ensure_future(replica.has_failed.wait())
        try:
            await asyncio.wait({work, failure}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise ServerUnreachableError(f"{replica.url} is down: {replica.failure}")
        finally:
            work.cancel()
            leave(work)
            failure.cancel()

    def close(self) -> None:
        """Leave the replica; further calls do nothing."""
        self._replica.leases.pop(self, None)
