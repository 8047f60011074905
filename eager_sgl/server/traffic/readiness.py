"""Why the SGLang servers cannot be used: in a word for everyone, in full for callers with a key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from eager_sgl.errors import (
    AuthenticationError,
    MalformedAnswerError,
    ServerError,
    ServerUnreachableError,
    ServerUnsuitableError,
)
from eager_sgl.server.errors import ApiError, api_error_of
from eager_sgl.server.settings import EndpointSettings
from eager_sgl.server.upstream import Upstream

__all__ = ["UNANSWERED", "Obstacle", "is_in_the_way", "obstacle_of", "unanswered"]

UNANSWERED = "unreachable"
"""The reason of a server that does not answer."""


@dataclass(frozen=True)
class Obstacle:
    """Why there is no server that can be used.

    Attributes:
        detail: for callers with a key.
        reasons: by server, in the order of `--server`; None for one that could be used alone.
    """

    detail: str
    reasons: tuple[str | None, ...]

    def refusal(self, *, has_key: bool) -> ApiError:
        """The answer; texts of SGLang servers are for callers with a key."""
        return ApiError(503, self.detail if has_key else self.summary, code="unavailable")

    @property
    def summary(self) -> str:
        """Which servers are not ready, and why, without a text of theirs."""
        number = len(self.reasons)
        states = [
            f"SGLang server {index} of {number} is {reason}"
            for index, reason in enumerate(self.reasons, 1)
            if reason is not None
        ]
        return "; ".join(states) or "the SGLang servers can be used alone, but not together"


def unanswered(settings: EndpointSettings) -> Obstacle:
    """The obstacle before a server has answered."""
    return Obstacle("no SGLang server has answered yet", (UNANSWERED,) * len(settings.servers))


async def obstacle_of(settings: EndpointSettings, error: Exception) -> Obstacle:
    """The obstacle behind the error of connecting to all servers."""
    reason, servers = _reason_of(error), settings.servers
    if isinstance(error, ServerUnreachableError):
        return unanswered(settings)
    detail = api_error_of(error).message
    if len(servers) == 1:
        return Obstacle(detail, (reason,))
    alone = (_alone(replace(settings, servers=(url,))) for url in servers)
    return Obstacle(detail, tuple(await asyncio.gather(*alone)))


async def is_in_the_way(settings: EndpointSettings, obstacle: Obstacle) -> bool:
    """Whether the servers that could not be used still cannot, for the same reasons.

    Only they are asked, if there are others: a probe is a number of requests.
    """
    states = zip(settings.servers, obstacle.reasons, strict=True)
    failed = [(url, reason) for url, reason in states if reason is not None]
    if len(failed) in (0, len(settings.servers)):
        return False  # connecting to all asks nobody in vain
    alone = (_alone(replace(settings, servers=(url,))) for url, _ in failed)
    return await asyncio.gather(*alone) == [reason for _, reason in failed]


async def _alone(settings: EndpointSettings) -> str | None:
    """Why the only server of some settings cannot be used."""
    try:
        upstream = await Upstream.connect(settings)
        await upstream.aclose()
    except Exception as error:  # whatever a server's answers have led to
        return _reason_of(error)
    return None


def _reason_of(error: Exception) -> str:
    match error:
        case ServerUnreachableError():
            return UNANSWERED
        case AuthenticationError():
            return "refusing the key of this server"
        case ServerUnsuitableError() | MalformedAnswerError():
            return "unsuitable"
        case ServerError():
            return "failing"
    return "not usable"
