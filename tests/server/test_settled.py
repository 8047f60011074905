"""Pieces that were sent are never withdrawn, and together are the texts of the result."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from eager_sgl import PromptResult
from eager_sgl.core import TokenCounts
from eager_sgl.generate.events import (
    Completed,
    CostChanged,
    Event,
    SequenceFinished,
    SequenceOpened,
    TokensAppended,
)
from eager_sgl.generate.limits import PromptLimits
from eager_sgl.generate.observers import Observer
from eager_sgl.generate.prompt import grow
from eager_sgl.generate.stream import Stream
from eager_sgl.server.settled import Piece, Settled
from tests.fakes.decoding import DecodingServer
from tests.generate.prompts import METHODS, in_loop, replicas_of


def pieces_of(name: str, model: int, interval: int) -> tuple[list[list[Piece]], Completed]:
    """The pieces after every event, and the last event."""
    server, method = DecodingServer(model, allows_gate=name.endswith("gate")), METHODS[name]

    async def follow() -> tuple[list[list[Piece]], Completed]:
        replicas = await replicas_of(server)

        async def generate(observer: Observer) -> PromptResult:
            limits = PromptLimits(stream_interval=interval)
            return await grow(replicas, (9,), method, limits=limits, observers=[observer])

        async def decode(sequences: Any) -> list[str]:
            return await replicas.call(lambda client: client.decode(sequences))

        settled = Settled(
            may_withdraw=method.monitoring is not None, are_probed=method.probe_text is not None
        )
        updates: list[list[Piece]] = []
        async for event in Stream(generate, decode):
            updates.append(settled.add(event))
        assert isinstance(event, Completed)
        return updates, event

    return in_loop(follow)


@pytest.mark.parametrize("interval", [1, 5])
@pytest.mark.parametrize("model", range(6))
@pytest.mark.parametrize("name", METHODS)
def test_pieces_are_the_texts_of_the_result(name: str, model: int, interval: int) -> None:
    updates, last = pieces_of(name, model, interval)
    pieces = [piece for update in updates for piece in update]
    texts: dict[int, str] = {}
    for piece in pieces:
        assert (piece.sequence in texts) == (piece.sequence < len(texts))
        texts[piece.sequence] = texts.get(piece.sequence, "") + piece.text
    sent, kept = Counter(texts.values()), Counter(s.text for s in last.result.sequences)
    assert kept <= sent
    assert sent == kept or "vote" in name  # which leaves what a decision does not need
    ends = [piece.sequence for piece in pieces if piece.finish_reason]
    assert sorted(ends) == sorted(texts)


@pytest.mark.parametrize("name", METHODS)
def test_a_branch_names_a_parent_with_the_same_beginning(name: str) -> None:
    updates, last = pieces_of(name, 3, 2)
    pieces = [piece for update in updates for piece in update]
    points = [piece.point for piece in pieces if piece.point is not None]
    sent = Counter(point.position for point in points)
    kept = Counter(point.position for point in last.result.branch_points)
    assert kept <= sent
    assert sent == kept or "vote" in name  # which leaves what a decision does not need
    # The first sequence that has pieces may have left one that has none yet.
    branched = [piece for piece in pieces if piece.point is not None and piece.sequence > 0]
    assert all(piece.parent is not None for piece in branched)


@pytest.mark.parametrize("name", METHODS)
def test_text_is_sent_while_the_tree_grows(name: str) -> None:
    updates, _ = pieces_of(name, 1, 2)
    before = [piece for update in updates[:-1] for piece in update if piece.text]
    assert len(before) > len(updates[-1])


def test_the_first_sample_is_known_where_another_ends_before_it() -> None:
    """Samples that probes may end have their pieces once they have ended."""
    settled, cost = Settled(may_withdraw=False, are_probed=True), CostChanged(TokenCounts(), 2)
    found: list[Piece] = []
    events: list[Event] = [SequenceOpened(n, None, 0) for n in (0, 1)]
    events += [TokensAppended(n, 0, (n,), str(n)) for n in (0, 1)]
    for event in (*events, SequenceFinished(1, "stop"), cost, SequenceFinished(0, "stop"), cost):
        found += settled.add(event)
    assert [(p.sequence, p.text, p.is_root) for p in found] == [(0, "1", False), (1, "0", True)]
