"""Random requests to the endpoint, and whether their answers are as they must be."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "Asked", "events_fault", "random_request", "whole_fault"]

DEADLINE_SHARE = 0.25
LEFT_SHARE = 0.1
MAX_SECONDS = 4.0
"""Of random deadlines, and until clients leave."""
_SAMPLING = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 256}
KINDS: dict[str, dict[str, Any]] = {
    "relay": {},
    "relay, streamed": {"stream": True},
    "parallel": {"method": "parallel", "n": 4},
    "drop-in": {"n": 4},
    "drop-in, streamed": {"n": 6, "stream": True},
    "vote": {"method": "vote"},
    "eager_init": {"method": "eager_init"},
    "eager_init, streamed": {"method": "eager_init", "stream": True},
    "best_first": {"method": "best_first"},
    "best_first, streamed": {"method": "best_first", "stream": True},
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "parallel": {},
    "vote": {"max_sequences": 6},
    "eager_init": {"max_sequences": 6, "threshold": 0.7},
    "best_first": {"max_sequences": 4},
}


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        kind: a key of `KINDS`.
        body: of the chat.
        leaves_after: seconds after which the client leaves; None if it waits.
    """

    kind: str
    body: dict[str, Any]
    leaves_after: float | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a stream."""
        return bool(self.body.get("stream"))

    @property
    def is_tree(self) -> bool:
        """Whether a tree answers it, which survives the death of its server."""
        return not self.kind.startswith(("relay", "parallel"))

    @property
    def has_deadline(self) -> bool:
        """Whether it may be ended by a deadline of its own."""
        return "timeout" in self.body or "deadline_s" in self.body.get("eager", {})

    @property
    def max_choices(self) -> int:
        """The most choices of its answer; as many as asked for if no deadline ends its tree."""
        if self.kind == "vote":
            return 1
        n: int = self.body.get("n") or self.body.get("eager", {}).get("max_sequences", 1)
        return n


def random_request(
    rng: random.Random, model: str, prompts: Sequence[list[dict[str, str]]]
) -> Asked:
    """A request of a random kind."""
    kind = rng.choice(list(KINDS))
    body: dict[str, Any] = {"model": model, "messages": rng.choice(prompts)} | _SAMPLING
    body |= {name: value for name, value in KINDS[kind].items() if name != "method"}
    if method := KINDS[kind].get("method"):
        body["eager"] = {"method": method} | _OPTIONS[method]
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}
    if rng.random() < DEADLINE_SHARE:
        seconds = rng.uniform(0.05, MAX_SECONDS)
        if method in ("vote", "eager_init", "best_first") and rng.random() < 0.5:
            body["eager"]["deadline_s"] = seconds
        else:
            body["timeout"] = seconds
    leaves = rng.uniform(0.0, MAX_SECONDS) if rng.random() < LEFT_SHARE else None
    return Asked(kind, body, leaves)


def whole_fault(asked: Asked, data: bytes) -> str | None:
    """What is wrong with a whole answer with status 200; None if nothing is."""
    answer = json.loads(data)
    reasons = [choice["finish_reason"] for choice in answer["choices"]]
    indices = [choice["index"] for choice in answer["choices"]]
    return _fault(asked, indices, reasons, answer)


def events_fault(asked: Asked, data: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """What is wrong with a stream, and the error that it ended with."""
    if not data.endswith(b"data: [DONE]\n\n"):
        return f"a stream ends with {data[-60:]!r}", None
    lines = [line[6:] for line in data.decode().splitlines() if line.startswith("data: {")]
    events = list(map(json.loads, lines))
    errors = [event["error"] for event in events if "error" in event]
    if errors:
        is_last = "error" in events[-1]
        return None if is_last and len(errors) == 1 else "an error is not the end", errors[0]
    choices = [choice for event in events for choice in event["choices"]]
    seen = sorted({choice["index"] for choice in choices})
    ends = [choice for choice in choices if choice["finish_reason"]]
    if sorted(choice["index"] for choice in ends) != seen:
        return "a choice of a stream does not end once", None
    return _fault(asked, seen, [choice["finish_reason"] for choice in ends], events[-1]), None


def _fault(
    asked: Asked, indices: list[int], reasons: list[str], bill: dict[str, Any]
) -> str | None:
    if indices != list(range(len(indices))) or len(indices) > asked.max_choices:
        return f"the choices are {indices}, at most {asked.max_choices} were asked for"
    is_ended = bill["eager"].get("stopped") is not None
    is_exact = asked.kind.startswith(("relay", "parallel", "drop-in"))
    if not is_ended and (not indices or (is_exact and len(indices) != asked.max_choices)):
        return f"{len(indices)} choices of {asked.max_choices}"
    if set(reasons) - {"stop", "length"}:
        return f"the finish reasons are {sorted(map(str, set(reasons)))}"
    if not is_ended and bill["usage"]["completion_tokens"] < 1:
        return "no tokens were generated"
    return None
