"""Answers in OpenAI's form: choices, pieces of choices, and the bill."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

import orjson

from eager_sgl.core import FinishReason, PromptResult
from eager_sgl.engine.protocol import Json
from eager_sgl.server.plan import AnswerPlan

__all__ = ["DONE", "Answer", "ReasoningSplit", "bill_of", "event", "plain_bill"]

DONE = b"data: [DONE]\n\n"
_CLOSE, _OPEN = "</think>", "<think>"


def event(value: Json, name: str | None = None) -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(value) + b"\n\n"


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

    def whole(self, texts: list[tuple[str, FinishReason]], bill: Json) -> Json:
        """The answer with one choice for each text."""
        choices = [
            {"index": index, "finish_reason": _reason(reason), "logprobs": None}
            | self._content(self.split(), text)
            for index, (text, reason) in enumerate(texts)
        ]
        return self._frame("chat.completion") | {"choices": choices} | bill

    def split(self) -> ReasoningSplit | None:
        """The splitter of a choice; None if its text is passed on as it is."""
        return ReasoningSplit(self.is_reasoning) if self.splits_reasoning else None

    def _content(self, split: ReasoningSplit | None, text: str) -> Json:
        if not self.is_chat:
            return {"text": text}
        message: Json = {"role": "assistant", "content": text}
        if split is not None:
            message["reasoning_content"], message["content"] = split.add(text, is_last=True)
        return {"message": message}

    def opening(self, index: int) -> bytes:
        """The first event of a choice; a completion has none."""
        delta = {"role": "assistant", "content": ""}
        return self._chunk({"index": index, "delta": delta}, None) if self.is_chat else b""

    def piece(
        self, index: int, split: ReasoningSplit | None, text: str, reason: FinishReason | None
    ) -> bytes:
        """The events of a piece of a choice; there may be none."""
        if not self.is_chat:
            return self._chunk({"index": index, "text": text}, reason)
        parts = split.add(text, is_last=reason is not None) if split else ("", text)
        named = zip(("reasoning_content", "content"), parts, strict=True)
        delta = {name: part for name, part in named if part}
        if not delta and reason is None:
            return b""
        return self._chunk({"index": index, "delta": delta}, reason)

    def end(self, bill: Json) -> bytes:
        """The event with the usage."""
        return event(self._frame("chat.completion.chunk") | {"choices": []} | bill)

    def _chunk(self, choice: Json, reason: FinishReason | None) -> bytes:
        choice |= {"logprobs": None, "finish_reason": None if reason is None else _reason(reason)}
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
    return "stop" if reason == "stop" else "length"


def bill_of(plan: AnswerPlan, result: PromptResult, seconds: float) -> Json:
    """The cost of a tree: `usage`, and `eager` with the details.

    `cached_tokens` is the least that the caches can have served of the prompt: what was computed
    of all prefixes is known, and how much of it belongs to the prompt is not.
    """
    counts, num_prompt = result.counts, len(result.prompt_ids)
    details = {
        "method": plan.name,
        "sequences": len(result.sequences),
        "branch_points": len(result.branch_points),
        "tokens": {
            "generated": counts.generated,
            "unique": counts.unique,
            "naive": counts.naive,
            "discarded": counts.discarded,
            "prefilled": counts.prefilled,
            "cached": counts.cached,
        },
        "requests": counts.requests,
        "inexact_steps": result.inexact_steps,
        "monitor": result.monitor,
        "stopped": result.stopped,
        "seconds": round(seconds, 3),
    }
    cached = max(0, num_prompt - counts.prefilled)
    return {"usage": _usage(num_prompt, counts.generated, cached), "eager": details}


def _usage(prompt: int, generated: int, cached: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def plain_bill(plan: AnswerPlan, usage: Json, seconds: float) -> Json:
    """The cost of a request to the SGLang server's route; independent sequences share nothing."""
    generated = usage.get("completion_tokens") or 0
    return {
        "method": plan.name,
        "reason": plan.reason,
        "sequences": plan.num_sequences,
        "branch_points": 0,
        "tokens": {"generated": generated, "unique": generated, "naive": generated},
        "seconds": round(seconds, 3),
    }
