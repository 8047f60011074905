"""Servers that connecting refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eager_sgl import connect
from eager_sgl.errors import ServerUnsuitableError
from tests.fakes.endpoint import endpoint_of
from tests.fakes.scripted import ScriptedServer, mixed_distribution


class Replicas(ScriptedServer):
    """Two servers that take turns, each with separate caches."""

    def __init__(self) -> None:
        super().__init__(mixed_distribution(42))
        self._other = ScriptedServer(mixed_distribution(42))
        self._number = 0

    def answer(self, path: str, body: Any = None) -> Any:
        if path != "/generate":
            return super().answer(path, body)
        self._number += 1
        if self._number % 2:
            return super().answer(path, body)
        return self._other.answer(path, body)


def test_replicas_that_take_turns_are_refused() -> None:
    with pytest.raises(ServerUnsuitableError, match="the same replica"):
        endpoint_of(Replicas())


def test_a_server_without_a_radix_cache_is_refused() -> None:
    with pytest.raises(ServerUnsuitableError, match="--disable-radix-cache"):
        endpoint_of(ScriptedServer(mixed_distribution(42), radix_cache=False))


def test_a_server_that_is_not_sglang_is_refused(scripted: ScriptedServer) -> None:
    scripted.answer = lambda path, body=None: {"a": 1}  # type: ignore[method-assign]
    with pytest.raises(ServerUnsuitableError, match="not as an SGLang server"):
        endpoint_of(scripted)


class Scoring(ScriptedServer):
    """A reward model's server, which is not asked for tokens."""

    def answer(self, path: str, body: Any = None) -> Any:
        assert path == "/model_info"
        return super().answer(path, body) | {"is_generation": False}


def test_a_server_whose_model_generates_nothing_is_refused_before_any_request_for_tokens() -> None:
    with pytest.raises(ServerUnsuitableError, match="scripted, which generates nothing"):
        endpoint_of(Scoring(mixed_distribution(42)))


def test_connecting_needs_a_url() -> None:
    with pytest.raises(ValueError, match="http://"):
        connect("localhost:30000")


class Busy(ScriptedServer):
    """Serves requests for tokens in turns: those that wait when a turn begins.

    Attributes:
        num_turns: that have begun.
    """

    turn: asyncio.Task[None] | None = None
    num_turns = 0

    async def post(self, path: str, *arguments: Any, **options: Any) -> Any:
        if path == "/generate":
            if self.turn is None:
                self.turn = asyncio.create_task(self._begin())
            await asyncio.shield(self.turn)
        return await super().post(path, *arguments, **options)

    async def _begin(self) -> None:
        await asyncio.sleep(0.05)
        self.turn, self.num_turns = None, self.num_turns + 1


@pytest.mark.parametrize(("has_gate", "num_turns"), [(True, 7), (False, 6)])
def test_a_busy_server_is_waited_for_a_few_times(has_gate: bool, num_turns: int) -> None:
    """Four for its cache, one for the gate, two for seeds; the rest waits beside them."""
    server = Busy(mixed_distribution(42), allows_gate=has_gate)
    assert (endpoint_of(server).profile.gate is not None) == has_gate
    assert num_turns <= server.num_turns <= num_turns + 2  # a pause may part two of them


def test_a_server_that_is_waited_for_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eager_sgl.engine.probe._NOTE_SECONDS", 0.03)
    endpoint_of(Busy(mixed_distribution(42)))
    assert "s for http://scripted to generate a few tokens" in caplog.text
    monkeypatch.setattr("eager_sgl.engine.probe._NOTE_SECONDS", 30.0)
    number = len(caplog.records)
    endpoint_of(ScriptedServer(mixed_distribution(42)))
    assert len(caplog.records) == number
