"""Servers that connecting refuses."""

from __future__ import annotations

import pytest

from eager_sgl import TokenEndpoint, connect
from eager_sgl.errors import ServerUnsuitableError
from tests.fakes.scripted import ScriptedServer, mixed_distribution


class Replicas(ScriptedServer):
    """Two servers that take turns, each with a cache of its own."""

    def __init__(self):
        super().__init__(mixed_distribution(42))
        self._other = ScriptedServer(mixed_distribution(42))
        self._turn = 0

    def answer(self, path, body=None):
        if path != "/generate":
            return super().answer(path, body)
        self._turn += 1
        replica = super() if self._turn % 2 else self._other
        return replica.answer(path, body)


def test_replicas_that_take_turns_are_refused():
    with pytest.raises(ServerUnsuitableError, match="the same replica"):
        TokenEndpoint(Replicas())


def test_a_server_without_a_radix_cache_is_refused():
    with pytest.raises(ServerUnsuitableError, match="--disable-radix-cache"):
        TokenEndpoint(ScriptedServer(mixed_distribution(42), radix_cache=False))


def test_a_server_that_is_not_sglang_is_refused(scripted):
    scripted.answer = lambda path, body=None: {"a": 1}
    with pytest.raises(ServerUnsuitableError, match="not as an SGLang server"):
        TokenEndpoint(scripted)


def test_connecting_needs_a_url():
    with pytest.raises(ValueError, match="http://"):
        connect("localhost:30000")
