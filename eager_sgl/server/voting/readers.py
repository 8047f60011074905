"""The field `eager.answer`: readers of answers, and calls of tools as the SGLang server reads them.

Models write calls in many forms, and `--tool-call-parser` of the SGLang server names that of its
model. So its route `/parse_function_call` reads them, with the special tokens that texts leave out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial

import orjson

from eager_sgl.config import REASONING_END
from eager_sgl.core import Sequence
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.limits import Patience
from eager_sgl.engine.protocol import Json, texts_of
from eager_sgl.engine.shapes import field
from eager_sgl.generate.client import AsyncClient
from eager_sgl.reasoning import final_text
from eager_sgl.server.errors import ApiError
from eager_sgl.server.facts import Facts
from eager_sgl.server.limits import RequestLimits
from eager_sgl.server.schema import Chat, RegexFields, TokenRequest
from eager_sgl.server.voting.operators import BUILT_IN
from eager_sgl.voting.answers import (
    AnswerClasses,
    AnswerReader,
    RegexAnswer,
    ToolCall,
    ToolCallAnswer,
    boxed_answer,
    json_answer,
)

__all__ = ["ToolMessage", "ToolParser", "classes_of"]

_PARSING = Patience((0.2,), timeout=30.0)
"""SGLang answers 500 to tools that its parser does not take, while a worker thread waits."""

ToolMessage = tuple[str, list[ToolCall]]
"""The text of a message without its calls, and the calls."""


class ToolParser:
    """Reads calls of tools.

    Args:
        client: to the SGLang servers.
        facts: of them.
        reasoning_end: the text that closes the reasoning; calls come after it.
    """

    def __init__(
        self, client: AsyncClient, facts: Facts, reasoning_end: str = REASONING_END
    ) -> None:
        self._client, self._facts, self._reasoning_end = client, facts, reasoning_end

    async def message(self, sequence: Sequence, tools: Items[Json]) -> ToolMessage:
        """The message of a sequence, after its reasoning."""
        replicas = await self._client.replicas()
        return await replicas.call(lambda client: self._message(client, sequence, tools))

    async def _message(
        self, client: TokenClient, sequence: Sequence, tools: Items[Json]
    ) -> ToolMessage:
        ids = list(sequence.open_token_ids)
        if not ids:
            return "", []
        wanted: Json = {"tokens": [ids], "skip_special_tokens": False}
        (text,) = await client.transport.post(
            "/detokenize", lambda: wanted, partial(texts_of, number=1)
        )
        final = final_text(text, self._reasoning_end)
        return await self.parse(client, text if final is None else final, tools)

    async def parse(self, client: TokenClient, text: str, tools: Items[Json]) -> ToolMessage:
        """The message of a text."""
        asked: Json = {"text": text, "tools": list(tools)}
        asked["tool_call_parser"] = self._facts.tool_call_parser
        return await client.transport.post(
            "/parse_function_call", lambda: asked, _message_of, patience=_PARSING
        )

    def reader(self, tools: Items[Json]) -> Callable[[Sequence], list[ToolCall]]:
        """A function that waits for the calls of a sequence; for other threads than the loop's."""
        loop = asyncio.get_running_loop()

        def calls(sequence: Sequence) -> list[ToolCall]:
            asked = asyncio.run_coroutine_threadsafe(self.message(sequence, tools), loop)
            return asked.result()[1]

        return calls


def _message_of(answer: object) -> ToolMessage:
    calls = field(answer, "calls", list)
    return field(answer, "normal_text", str), [
        ToolCall(field(call, "name", str), field(call, "parameters", str)) for call in calls
    ]


def classes_of(
    body: TokenRequest, facts: Facts, limits: RequestLimits, tools: ToolParser | None
) -> AnswerClasses:
    """The classes of the sequences of a request, by `eager.answer` or boxes.

    Raises:
        ApiError: the reader is unknown, the pattern is invalid, or there are no tools to call.
    """
    answer = "boxed" if body.options.answer is None else body.options.answer
    if isinstance(answer, RegexFields):
        return AnswerClasses(_RegexReader(answer.regex))
    if answer == "tool_call":
        return AnswerClasses(_tool_reader(body, facts, tools))
    readers = {"boxed": boxed_answer, "json": json_answer} | dict(limits.readers)
    if answer not in readers:
        known = ", ".join((*BUILT_IN, *limits.readers))
        message = f'there is no answer {answer!r}; known are {known} and {{"regex": PATTERN}}'
        raise ApiError(400, message, "eager.answer")
    return AnswerClasses(readers[answer])


def _tool_reader(body: TokenRequest, facts: Facts, tools: ToolParser | None) -> AnswerReader:
    if not isinstance(body, Chat) or not body.tools:
        raise ApiError(400, 'eager.answer is "tool_call", and there are no tools', "tools")
    for name, wrong in (("tool_choice", "none"), ("parallel_tool_calls", False)):
        if getattr(body, name) == wrong:
            value = orjson.dumps(wrong).decode()
            message = f"{name} is {value}, and a vote on calls does not keep to it; leave it out"
            raise ApiError(400, message, name)
    if facts.tool_call_parser is None or tools is None:
        message = 'eager.answer "tool_call" needs an SGLang server with --tool-call-parser'
        raise ApiError(400, message, "eager.answer")
    return ToolCallAnswer(tools.reader(body.tools))


class _RegexReader:
    """A reader whose errors are the client's."""

    def __init__(self, pattern: str) -> None:
        try:
            self._answer = RegexAnswer(pattern)
        except ValueError as error:
            raise ApiError(400, str(error), "eager.answer.regex") from None

    def __call__(self, sequence: Sequence) -> str | None:
        try:
            return self._answer(sequence)
        except ValueError as error:
            raise ApiError(422, str(error), "eager.answer.regex") from None
