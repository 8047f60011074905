"""Answers in OpenAI's form: choices, and pieces of choices."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import orjson

from eager_sgl.core import FinishReason
from eager_sgl.engine.protocol import Json
from eager_sgl.voting.answers import ToolCall

__all__ = ["DONE", "Answer", "ReasoningSplit", "Text", "event", "named_event"]

DONE = b"data: [DONE]\n\n"
_CLOSE, _OPEN = "</think>", "<think>"


def event(value: Json, name: str | None = None) -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(value) + b"\n\n"


def named_event(name: str, value: Json) -> bytes:
    """An event of ours; clients that do not know it find a piece without choices."""
    return event({"object": f"eager.{name}", "choices": []} | value, name)


@dataclass(frozen=True)
class Text:
    """The text of a choice.

    Attributes:
        text: with its reasoning.
        finish_reason: of its sequence.
        final: the text after the reasoning without `calls`; None where it has no calls.
        calls: of tools.
    """

    text: str
    finish_reason: FinishReason
    final: str | None = None
    calls: Items[ToolCall] = ()

    @property
    def reason(self) -> str:
        """OpenAI's word for the finish reason."""
        return "tool_calls" if self.calls else _reason(self.finish_reason)


@dataclass
class ReasoningSplit:
    """Splits the pieces of a text into its reasoning and the rest.

    Attributes:
        is_open: whether the text is inside the reasoning.
    """

    is_open: bool
    _waiting: str = field(default="", init=False)
    _has_begun: bool = field(default=False, init=False)

    def add(self, text: str, *, is_last: bool) -> tuple[str, str]:
        """The new parts (reasoning, rest); the start of a tag waits for what follows."""
        text, self._waiting = self._waiting + text, ""
        if not self._has_begun:
            if not is_last and len(text) < len(_OPEN) and _OPEN.startswith(text):
                self._waiting = text
                return "", ""
            self._has_begun = True
            self.is_open |= text.startswith(_OPEN)
            text = text.removeprefix(_OPEN)
        if not self.is_open:
            return "", text
        reasoning, tag, rest = text.partition(_CLOSE)
        if tag:
            self.is_open = False
            return reasoning, rest
        if not is_last:
            sizes = range(min(len(text), len(_CLOSE) - 1), 0, -1)
            size = next((n for n in sizes if _CLOSE.startswith(text[-n:])), 0)
            reasoning, self._waiting = text[: len(text) - size], text[len(text) - size :]
        return reasoning, ""


@dataclass(frozen=True)
class Answer:
    """The form of the answers to a request.

    As in SGLang's own, messages and deltas of chats always have `reasoning_content`, null where
    there is none.

    Attributes:
        model: as the request names it.
        is_chat: the route.
        splits_reasoning: whether the reasoning is a separate field.
        is_reasoning: whether the prompt opens the reasoning.
        id: of the answer.
        created: Unix time in seconds.
    """

    model: str
    is_chat: bool
    splits_reasoning: bool = False
    is_reasoning: bool = False
    id: str = field(default_factory=secrets.token_hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: Items[Text], bill: Json) -> Json:
        """The answer with one choice for each text."""
        choices = [
            {"index": index, "finish_reason": text.reason, "logprobs": None} | self._content(text)
            for index, text in enumerate(texts)
        ]
        return self._frame("chat.completion") | {"choices": choices} | bill

    def split(self) -> ReasoningSplit | None:
        """The splitter of a choice; None if its text is passed on as it is."""
        return ReasoningSplit(self.is_reasoning) if self.splits_reasoning else None

    def _content(self, text: Text) -> Json:
        if not self.is_chat:
            return {"text": text.text}
        return {"message": {"role": "assistant", "content": ""} | self._message(text)}

    def _message(self, text: Text) -> Json:
        split = self.split()
        reasoning, rest = split.add(text.text, is_last=True) if split else ("", text.text)
        message: Json = {"reasoning_content": reasoning or None}
        if not text.calls:
            return message | {"content": rest}
        return message | {"content": text.final or None, "tool_calls": _calls(text.calls)}

    def rest(self, index: int, text: Text) -> bytes:
        """The event with all of a choice except its reasoning."""
        if not self.is_chat:
            return self._chunk({"index": index, "text": text.text}, text.reason)
        delta = {name: part for name, part in self._message(text).items() if part}
        delta["reasoning_content"] = None
        for number, call in enumerate(delta.get("tool_calls", ())):
            call["index"] = number
        return self._chunk({"index": index, "delta": delta}, text.reason)

    def opening(self, index: int) -> bytes:
        """The first event of a choice; a completion has none."""
        delta = {"role": "assistant", "content": "", "reasoning_content": None}
        return self._chunk({"index": index, "delta": delta}, None) if self.is_chat else b""

    def piece(
        self, index: int, split: ReasoningSplit | None, text: str, reason: FinishReason | None
    ) -> bytes:
        """The events of a piece of a choice; there may be none."""
        if not self.is_chat:
            return self._chunk({"index": index, "text": text}, reason and _reason(reason))
        reasoning, rest = split.add(text, is_last=reason is not None) if split else ("", text)
        if not (reasoning or rest or reason):
            return b""
        delta: Json = {"reasoning_content": reasoning or None} | ({"content": rest} if rest else {})
        return self._chunk({"index": index, "delta": delta}, reason and _reason(reason))

    def reasoning(self, index: int, text: str) -> bytes:
        """The event of a piece of reasoning."""
        return self._chunk({"index": index, "delta": {"reasoning_content": text}}, None)

    def end(self, bill: Json) -> bytes:
        """The event with the usage."""
        return event(self._frame("chat.completion.chunk") | {"choices": []} | bill)

    def _chunk(self, choice: Json, reason: str | None) -> bytes:
        choice |= {"logprobs": None, "finish_reason": reason}
        return event(self._frame("chat.completion.chunk") | {"choices": [choice]})

    def _frame(self, kind: str) -> Json:
        return {
            "id": f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self.id}",
            "object": kind if self.is_chat else "text_completion",
            "created": self.created,
            "model": self.model,
        }


def _reason(reason: FinishReason) -> str:
    """OpenAI's word; a sequence that a budget or deadline ended has reached a length."""
    return "stop" if reason in ("stop", "probed") else "length"


def _calls(calls: Items[ToolCall]) -> list[Json]:
    return [
        {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
