"""The connected SGLang servers, and what needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from eager_sgl.generate.client import AsyncClient
from eager_sgl.server.facts import Facts, facts_of
from eager_sgl.server.relay import Relay
from eager_sgl.server.settings import EndpointSettings
from eager_sgl.server.trees import TreeAnswers
from eager_sgl.server.voting.readers import ToolParser

__all__ = ["Upstream"]


@dataclass(frozen=True)
class Upstream:
    """The connected SGLang servers.

    Attributes:
        client: to them.
        facts: of them.
        tools: reads calls of tools.
        trees, relay: the two ways to answer.
    """

    client: AsyncClient
    facts: Facts
    tools: ToolParser
    trees: TreeAnswers
    relay: Relay

    @classmethod
    async def connect(cls, settings: EndpointSettings) -> Self:
        """Connect.

        Raises:
            ServerError: no server answers, or one is unsuitable.
        """
        client = AsyncClient(settings.servers, api_key=settings.server_key)
        try:
            facts = await facts_of(client, settings.chat_defaults)
        except BaseException:
            await client.aclose()
            raise
        tools = ToolParser(client, facts, settings.limits.reasoning_end)
        trees, relay = TreeAnswers(client, facts, tools), Relay(client, facts)
        return cls(client, facts, tools, trees, relay)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.relay.aclose()
        await self.client.aclose()
