"""Answers through a tree: whole, or as server-sent events while it grows."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from eager_sgl.engine.limits import Patience
from eager_sgl.engine.protocol import Json, tokens_of
from eager_sgl.generate.client import AsyncClient
from eager_sgl.generate.events import Completed
from eager_sgl.methods import Method
from eager_sgl.server.answers import Answer, ReasoningSplit, bill_of, event
from eager_sgl.server.facts import Facts
from eager_sgl.server.plan import AnswerPlan
from eager_sgl.server.schema import Chat, Completion, TokenRequest
from eager_sgl.server.settled import Piece, Settled
from eager_sgl.server.vote import verdict_of

__all__ = ["TreeAnswers"]

_TAIL = 8
"""Tokens at the end of a prompt that may open the reasoning."""
_RENDERING = Patience((0.2,), timeout=30.0)
"""SGLang answers 500 to messages that a template does not take, so there is one further try."""
_ALWAYS_REASONING = ("deepseek-r1", "qwen3-thinking")
_OF_TEMPLATES = (
    "messages",
    "chat_template_kwargs",
    "reasoning_effort",
    "continue_final_message",
)


class TreeAnswers:
    """Answers requests through trees.

    Args:
        client: generates.
        facts: of its servers.
    """

    def __init__(self, client: AsyncClient, facts: Facts) -> None:
        self._client, self._facts = client, facts

    async def whole(self, body: TokenRequest, plan: AnswerPlan) -> Json:
        """The answer once the tree is complete.

        Raises:
            ServerError, ValueError: as of `AsyncClient.generate`.
        """
        started, (prompt, method) = time.monotonic(), await self._prompt_and_method(body, plan)
        answer = await self._answer(body, prompt)
        options = body.options
        result = await self._client.generate(
            prompt, method, timeout=options.deadline_s, max_tokens=options.token_budget
        )
        bill, chosen = bill_of(plan, result, time.monotonic() - started), result.sequences
        if plan.name == "vote" and chosen:
            verdict = verdict_of(chosen)
            chosen = (chosen[verdict.sequence],)
            bill["eager"] |= {"answer": verdict.answer, "votes": verdict.votes}
            bill["eager"]["confidence"] = verdict.confidence
        return answer.whole([(s.text, s.finish_reason) for s in chosen], bill)

    async def events(
        self, body: TokenRequest, plan: AnswerPlan
    ) -> AsyncGenerator[tuple[bytes, Json]]:
        """The answer as server-sent events, the last one with the bill; without `[DONE]`.

        Closing the iterator ends all requests of the tree on the servers.

        Yields:
            Bytes, and the bill with the last ones, else an empty object. The first ones are empty:
            the prompt is valid.
        """
        started, (prompt, method) = time.monotonic(), await self._prompt_and_method(body, plan)
        answer = await self._answer(body, prompt)
        yield b"", {}
        settled = Settled(may_withdraw=method.monitoring is not None)
        writer = _Writer(answer, with_events=body.options.events)
        async with self._client.stream(
            prompt,
            method,
            timeout=body.options.deadline_s,
            max_tokens=body.options.token_budget,
        ) as stream:
            async for change in stream:
                for piece in settled.add(change):
                    yield writer.write(piece), {}
                if isinstance(change, Completed):
                    bill = bill_of(plan, change.result, time.monotonic() - started)
                    yield answer.end(bill) if body.wants_usage else b"", bill

    async def _prompt_and_method(
        self, body: TokenRequest, plan: AnswerPlan
    ) -> tuple[tuple[int, ...], Method]:
        assert plan.method is not None, "the SGLang server's route answers this"
        return await self._encode(body), plan.method

    async def _encode(self, body: TokenRequest) -> tuple[int, ...]:
        """The prompt's tokens, rendered by the SGLang server as for its own routes."""
        if isinstance(body, Completion):
            return await self._client.encode(body.prompts[0])  # the only one
        wanted = {name: getattr(body, name) for name in _OF_TEMPLATES if name in body.given}
        replicas = await self._client.replicas()
        return await replicas.call(
            lambda client: client.transport.post(
                "/tokenize", lambda: wanted, tokens_of, patience=_RENDERING
            )
        )

    async def _answer(self, body: TokenRequest, prompt: tuple[int, ...]) -> Answer:
        """The form of the answer."""
        parser = self._facts.reasoning_parser
        if not isinstance(body, Chat) or parser is None:
            return Answer(body.model, isinstance(body, Chat))
        is_open = parser in _ALWAYS_REASONING
        if not is_open:
            (tail,) = await self._client.decode([prompt[-_TAIL:]])
            is_open = tail.rstrip().endswith("<think>")
        return Answer(body.model, is_chat=True, splits_reasoning=True, is_reasoning=is_open)


class _Writer:
    """Writes pieces of sequences as events."""

    def __init__(self, answer: Answer, *, with_events: bool) -> None:
        self._answer, self._with_events = answer, with_events
        self._splits: dict[int, ReasoningSplit | None] = {}

    def write(self, piece: Piece) -> bytes:
        """The events of a piece."""
        index, events = piece.sequence, []
        if index not in self._splits:
            self._splits[index] = self._answer.split()
            events += [self._branch(piece), self._answer.opening(index)]
        split, reason = self._splits[index], piece.finish_reason
        events.append(self._answer.piece(index, split, piece.text, reason))
        if self._with_events and reason is not None:
            events.append(_event("finish", {"index": index, "finish_reason": reason}))
        return b"".join(events)

    def _branch(self, piece: Piece) -> bytes:
        """The event of a branch, before the first one of the new choice."""
        if not self._with_events or piece.point is None:
            return b""
        point = piece.point
        evidence = {"position": point.position, "entropy": point.entropy}
        tokens = {"token_ids": point.token_ids, "probabilities": point.probabilities}
        place = {"index": piece.sequence, "parent": piece.parent}
        return _event("branch", place | evidence | tokens)


def _event(name: str, value: Json) -> bytes:
    """A named event; clients that do not know it find a piece without choices."""
    return event({"object": f"eager.{name}", "choices": []} | value, name)
