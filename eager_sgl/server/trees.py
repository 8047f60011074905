"""Answers through a tree: whole, or as server-sent events while it grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from eager_sgl.core import PromptResult, Sequence
from eager_sgl.engine.limits import Patience
from eager_sgl.engine.protocol import Json, tokens_of
from eager_sgl.generate.client import AsyncClient
from eager_sgl.generate.events import Completed
from eager_sgl.generate.results import partial_of
from eager_sgl.generate.workers import in_worker
from eager_sgl.methods import Method
from eager_sgl.server.answers import Answer, Text
from eager_sgl.server.bill import Count, bill_of, num_reasoning_tokens
from eager_sgl.server.errors import of_the_request
from eager_sgl.server.facts import ALWAYS_REASONING, Facts
from eager_sgl.server.plan import AnswerPlan
from eager_sgl.server.schema import Chat, Completion, EagerOptions, TokenRequest
from eager_sgl.server.settled import Settled
from eager_sgl.server.voting.ballot import Ballot
from eager_sgl.server.voting.readers import ToolParser
from eager_sgl.server.writers import BestWriter, ChoicesWriter, Writer

__all__ = ["TreeAnswers"]

_OPEN, _CLOSE = "<think>", "</think>"
_TAIL = 8
"""Tokens at the end of a prompt that may open the reasoning."""
_RENDERING = Patience((0.2,), timeout=30.0)
"""SGLang answers 500 to messages that a template does not take, so there is one further try."""
_MIN_SECONDS = 1e-3
_OF_TEMPLATES = (
    "messages",
    "chat_template_kwargs",
    "reasoning_effort",
    "continue_final_message",
    "tools",
    "tool_choice",
)


class TreeAnswers:
    """Answers requests through trees.

    Args:
        client: generates.
        facts: of its servers.
        tools: reads the calls of tools.
    """

    def __init__(self, client: AsyncClient, facts: Facts, tools: ToolParser) -> None:
        self._client, self._facts, self._tools = client, facts, tools

    async def whole(self, body: TokenRequest, plan: AnswerPlan, count: Count) -> Json:
        """The answer once the tree is complete.

        Args:
            count: called with the bill, also with that of a tree that was ended.

        Raises:
            ServerError, ApiError: the request has no answer.
        """
        started, prompt = time.monotonic(), await self._encode(body)
        answer, options = await self._answer(body, prompt), body.options
        try:
            result = await self._client.generate(
                prompt,
                _method(plan),
                timeout=_seconds_left(options, started),
                max_tokens=options.token_budget,
            )
        except (Exception, asyncio.CancelledError) as error:
            _count_partial(plan, partial_of(error), started, count)
            raise
        try:
            texts, bill = await self._outcome(body, plan, answer, result, started)
        except (Exception, asyncio.CancelledError):
            _count_partial(plan, result, started, count)
            raise
        count(bill)
        return answer.whole(texts, bill)

    async def events(
        self, body: TokenRequest, plan: AnswerPlan, count: Count
    ) -> AsyncGenerator[bytes]:
        """The answer as server-sent events, without `[DONE]`.

        Closing the iterator ends all requests of the tree on the servers.

        Yields:
            Bytes, perhaps none. The first ones are: the prompt is valid.
        """
        started, prompt = time.monotonic(), await self._encode(body)
        answer, options = await self._answer(body, prompt), body.options
        yield b""
        stream = self._client.stream(
            prompt,
            _method(plan),
            timeout=_seconds_left(options, started),
            max_tokens=options.token_budget,
        )
        writer, is_counted = _writer(plan, answer, with_events=options.events), False
        try:
            async with stream:
                async for change in stream:
                    for data in writer.write(change):
                        yield data
                    if isinstance(change, Completed):
                        texts, bill = await self._outcome(
                            body, plan, answer, change.result, started
                        )
                        is_counted = True
                        count(bill)
                        for data in writer.end(texts):
                            yield data
                        yield answer.end(bill) if body.wants_usage else b""
        finally:
            if not is_counted:
                _count_partial(plan, stream.result, started, count)

    async def _outcome(
        self,
        body: TokenRequest,
        plan: AnswerPlan,
        answer: Answer,
        result: PromptResult,
        started: float,
    ) -> tuple[list[Text], Json]:
        """The texts of the choices, and the bill."""
        chosen, ballot = result.sequences, await _vote(plan, result)
        marker = await self._marker(_method(plan).reasoning_end)
        reasoning = num_reasoning_tokens(chosen, marker, is_open=answer.is_reasoning)
        if ballot is not None and plan.returns == "best":
            chosen = (chosen[ballot.chosen],)
        texts = [await self._text(body, sequence) for sequence in chosen]
        bill = bill_of(plan, result, reasoning, time.monotonic() - started)
        bill["eager"] |= {} if ballot is None else ballot.entry
        return texts, bill

    async def _marker(self, text: str | None) -> tuple[int, ...]:
        replicas = await self._client.replicas()
        return await replicas.call(lambda client: client.marker(text))

    async def _text(self, body: TokenRequest, sequence: Sequence) -> Text:
        if not isinstance(body, Chat) or not body.tools:
            return Text(sequence.text, sequence.finish_reason)
        final, calls = await self._tools.message(sequence, body.tools)
        return Text(sequence.text, sequence.finish_reason, final, calls)

    async def _encode(self, body: TokenRequest) -> tuple[int, ...]:
        """The prompt's tokens, rendered by the SGLang server as for its own routes.

        Raises:
            ApiError: the prompt has no tokens, or leaves less room than the request asks for.
            TimeoutError: they have not arrived within `eager.deadline_s`.
        """
        with of_the_request():
            async with asyncio.timeout(body.options.deadline_s):
                prompt = await self._rendered(body)
        self._facts.require_fitting(len(prompt), body.length_limit)
        return prompt

    async def _rendered(self, body: TokenRequest) -> tuple[int, ...]:
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
        if not isinstance(body, Chat) or self._facts.reasoning_parser is None:
            return Answer(body.model, isinstance(body, Chat))
        is_open = await self._opens_reasoning(body.continued or "", prompt)
        return Answer(body.model, is_chat=True, splits_reasoning=True, is_reasoning=is_open)

    async def _opens_reasoning(self, continued: str, prompt: tuple[int, ...]) -> bool:
        """Whether an answer begins inside the reasoning.

        Args:
            continued: the message that it continues; empty without one.
        """
        if _OPEN in continued or _CLOSE in continued:
            return _CLOSE not in continued
        if self._facts.reasoning_parser in ALWAYS_REASONING:
            return True
        (tail,) = await self._client.decode([prompt if continued else prompt[-_TAIL:]])
        return tail.strip().removesuffix(continued.strip()).rstrip().endswith(_OPEN)


def _method(plan: AnswerPlan) -> Method:
    assert plan.method is not None, "the SGLang server's route answers this"
    return plan.method


def _writer(plan: AnswerPlan, answer: Answer, *, with_events: bool) -> Writer:
    method = _method(plan)
    settled = Settled(
        may_withdraw=method.monitoring is not None, are_probed=method.probe_text is not None
    )
    kind = BestWriter if plan.returns == "best" else ChoicesWriter
    return kind(answer, settled, plan.poll, with_events=with_events)


def _seconds_left(options: EagerOptions, started: float) -> float | None:
    """The seconds of a tree, whose prompt has taken a part of them; None without a deadline."""
    if options.deadline_s is None:
        return None
    return max(_MIN_SECONDS, options.deadline_s - (time.monotonic() - started))


async def _vote(plan: AnswerPlan, result: PromptResult) -> Ballot | None:
    """The result of the vote; None where there is none. Readers may wait for the SGLang server."""
    if not result.sequences or (plan.poll.classes is None and plan.returns == "all"):
        return None
    await in_worker(lambda: plan.poll.note(result.sequences))
    return plan.poll.latest


def _count_partial(
    plan: AnswerPlan, result: PromptResult | None, started: float, count: Count
) -> None:
    """Count a tree that was ended."""
    if result is not None:
        count(bill_of(plan, result, 0, time.monotonic() - started))
