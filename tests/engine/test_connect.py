"""Servers that connecting refuses."""

from __future__ import annotations

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


def test_connecting_needs_a_url() -> None:
    with pytest.raises(ValueError, match="http://"):
        connect("localhost:30000")
