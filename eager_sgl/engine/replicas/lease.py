"""A replica, and the leases of the trees that live on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from eager_sgl.engine.replicas.servers import TokenClient, Transport
from eager_sgl.errors import ServerError

__all__ = ["Lease", "Replica"]


@dataclass(eq=False)
class Replica:
    """One of the servers of a client.

    Attributes:
        transport: sends its requests.
        client: None until the server has answered for the first time.
        failure: why the server is down; None while it is up.
        leases: of the trees on it, in the order in which they came.
        orphans: ids of requests that may still run on it, though nobody waits for them.
    """

    transport: Transport
    client: TokenClient | None = None
    failure: ServerError | None = None
    leases: dict[Lease, None] = field(default_factory=dict)
    orphans: set[str] = field(default_factory=set)

    @property
    def is_up(self) -> bool:
        """Whether trees may be placed on it."""
        return self.failure is None

    @property
    def load(self) -> int:
        """Tokens that its trees wait for."""
        return sum(lease.load for lease in self.leases)


class Lease:
    """The place of a tree on a replica, and its share of the replica's load.

        async with replicas.lease(expected_tokens, on_down) as lease:
            generation = await lease.client.generate(…)

    Args:
        choose: the replica to live on.
        expected_tokens: that the tree will ask for, at least 1; its load while it has no request.
        on_down: called when the replica fails, from the event loop, which it must not block. The
            tree then cancels its requests and awaits `move`.

    Raises:
        ValueError: fewer tokens than 1 are expected.
    """

    def __init__(
        self,
        choose: Callable[[], Awaitable[Replica]],
        expected_tokens: int,
        on_down: Callable[[], None] = lambda: None,
    ) -> None:
        if expected_tokens < 1:
            raise ValueError(f"expected_tokens is {expected_tokens}; it must be at least 1")
        self.on_down = on_down
        self._choose = choose
        self._expected, self._outstanding = expected_tokens, 0
        self._replica: Replica | None = None

    @property
    def client(self) -> TokenClient:
        """The client of the tree's replica; another one after `move`."""
        assert self._replica is not None, "the lease has not begun, or has ended"
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

    async def move(self, abandoned: Iterable[str] = ()) -> None:
        """Live on a replica that is up, after a failure.

        Args:
            abandoned: ids of the tree's requests that may still run on the old replica; they are
                aborted as soon as it answers.

        Raises:
            ServerUnreachableError: none is up, and none came up again within half a minute.
        """
        if self._replica is not None:
            self._replica.orphans.update(abandoned)
        self._leave()
        await self._enter()

    async def _enter(self) -> None:
        replica = await self._choose()
        replica.leases[self] = None
        self._replica = replica

    def _leave(self) -> None:
        if self._replica is not None:
            del self._replica.leases[self]
        self._replica = None

    async def __aenter__(self) -> Self:
        await self._enter()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._leave()
