"""Why the SGLang servers cannot be used: in a word for everyone, in full for callers with a key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

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

__all__ = ["Fault", "Obstacle", "obstacle_of", "still_in_the_way", "unanswered"]

_UNANSWERED = "unreachable"


class Fault(NamedTuple):
    """Why a server cannot be used: in a word, and in a text that may be the server's."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Obstacle:
    """Why there is no server that can be used.

    Attributes:
        detail: for callers with a key.
        faults: by server, in the order of `--server`; None for one that could be used alone.
    """

    detail: str
    faults: tuple[Fault | None, ...]

    def refusal(self, *, has_key: bool) -> ApiError:
        """The answer; texts of SGLang servers are for callers with a key."""
        return ApiError(503, self.detail if has_key else self.summary, code="unavailable")

    @property
    def summary(self) -> str:
        """Which servers are not ready, and why, without a text of theirs."""
        number = len(self.faults)
        states = [
            f"SGLang server {index} of {number} is {fault.reason}"
            for index, fault in enumerate(self.faults, 1)
            if fault is not None
        ]
        return "; ".join(states) or "the SGLang servers can be used alone, but not together"


def unanswered(
    settings: EndpointSettings, detail: str = "no SGLang server has answered yet"
) -> Obstacle:
    """The obstacle while no server answers."""
    return Obstacle(detail, (Fault(_UNANSWERED, detail),) * len(settings.servers))


async def obstacle_of(settings: EndpointSettings, error: Exception) -> Obstacle:
    """The obstacle behind the error of connecting to all servers."""
    if isinstance(error, ServerUnreachableError):
        return unanswered(settings)
    fault = _fault_of(error)
    if len(settings.servers) == 1:
        return Obstacle(fault.detail, (fault,))
    faults = await _alone(settings, settings.servers)
    return Obstacle(_joined(faults) or fault.detail, tuple(faults))


async def still_in_the_way(settings: EndpointSettings, obstacle: Obstacle) -> Obstacle | None:
    """The obstacle with its present texts, if the same servers cannot be used for the same reasons.

    Only they are asked, if there are others: a probe is a number of requests.

    Returns:
        None where all servers are to be connected to again.
    """
    states = zip(settings.servers, obstacle.faults, strict=True)
    failed = {url: fault for url, fault in states if fault is not None}
    if len(failed) in (0, len(settings.servers)):
        return None  # connecting to all asks nobody in vain
    present = dict(zip(failed, await _alone(settings, failed), strict=True))
    if any(fault is None or fault.reason != failed[url].reason for url, fault in present.items()):
        return None
    faults = [present.get(url) for url in settings.servers]
    return Obstacle(_joined(faults), tuple(faults))


def _joined(faults: Iterable[Fault | None]) -> str:
    return "; ".join(dict.fromkeys(fault.detail for fault in faults if fault is not None))


async def _alone(settings: EndpointSettings, urls: Iterable[str]) -> list[Fault | None]:
    """Why servers cannot be used, if each is the only one."""
    only = (replace(settings, servers=(url,)) for url in urls)
    return await asyncio.gather(*map(_tried, only))


async def _tried(settings: EndpointSettings) -> Fault | None:
    try:
        upstream = await Upstream.connect(settings)
        await upstream.aclose()
    except Exception as error:  # whatever a server's answers have led to
        return _fault_of(error)
    return None


def _fault_of(error: Exception) -> Fault:
    return Fault(_reason_of(error), api_error_of(error).message)


def _reason_of(error: Exception) -> str:
    match error:
        case ServerUnreachableError():
            return _UNANSWERED
        case AuthenticationError():
            return "refusing the key of this server"
        case ServerUnsuitableError() | MalformedAnswerError():
            return "unsuitable"
        case ServerError():
            return "failing"
    return "not usable"
