"""Answers of `/generate` to the requests of a state: generated texts, and scores of texts."""

from __future__ import annotations

from dataclasses import dataclass

from eager_sgl.core import TopLogprobs
from eager_sgl.engine.protocol import Json, finish_of, nested_arrays
from eager_sgl.engine.shapes import ShapeError, as_object, field, list_of

__all__ = ["LOGPROB_TEMPERATURE", "TextAnswer", "parse_chunk", "parse_score", "parse_text_answer"]

LOGPROB_TEMPERATURE = "eager_sgl.logprob_temperature"
"""The field that a state's `meta_info` has beside the server's: temperature of its logprobs."""


@dataclass(frozen=True)
class TextAnswer:
    """The answer to an `sgl.gen`.

    Attributes:
        text: the generated text, without the stop string or token.
        token_ids: the tokens of that text; None where a stop string ended it, perhaps inside a
            token.
        meta_info: the server's, which programs read.
    """

    text: str
    token_ids: tuple[int, ...] | None
    meta_info: Json


def parse_text_answer(answer: object) -> TextAnswer:
    """The answer of `/generate` to a state's request.

    Raises:
        ServerError: the server aborted the request.
        ShapeError: the answer has another shape.
    """
    text, meta = field(answer, "text", str), field(answer, "meta_info", dict)
    token_ids = tuple(list_of(int, answer, "output_ids"))
    finish = finish_of(meta)
    if finish.kind is None:
        raise ShapeError("its request has not ended")
    finish.require_not_aborted()
    if isinstance(finish.matched, int):
        return TextAnswer(text, token_ids[:-1], meta)
    return TextAnswer(text, token_ids if finish.kind == "length" else None, meta)


def parse_chunk(meta: Json) -> tuple[tuple[int, ...], TopLogprobs]:
    """The C tokens of a generated text, a stop token included, and the K most likely at each step.

    Args:
        meta: `meta_info` of a state's request for logprobs, with `LOGPROB_TEMPERATURE`.

    Raises:
        ValueError: a stop string ended the text, perhaps inside a token.
        ShapeError: the logprobs have another shape.
    """
    finish = finish_of(meta)
    if finish.kind == "stop" and not isinstance(finish.matched, int):
        raise ValueError(
            f"the text ended at the stop string {finish.matched!r}, perhaps inside a token; use "
            "stop_token_ids instead"
        )
    sampled = list_of(list, meta, "output_token_logprobs")
    rows = list_of(list, meta, "output_top_logprobs")
    # A request for no tokens has the logprobs of the step that it would have sampled.
    rows = rows[: len(sampled)]
    if len(rows) < len(sampled):
        raise ShapeError(f"it has the most likely tokens of {len(rows)} of {len(sampled)} steps")
    try:
        token_ids = tuple(int(token) for _, token, _ in sampled)
        ids, logprobs = nested_arrays(rows)
        shape = (len(token_ids), len(rows[0]) if rows else 0)
        top = TopLogprobs(ids.reshape(shape), logprobs.reshape(shape), meta[LOGPROB_TEMPERATURE])
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise ShapeError(f"its logprobs cannot be read ({error!r})") from error
    return token_ids, top


def parse_score(answer: object, *, has_logprobs: bool) -> Json:
    """The answer of `/generate` to a text that is scored, with nothing generated after it.

    Raises:
        ServerError: the server aborted the request.
        ShapeError: the answer has another shape.
    """
    meta = field(answer, "meta_info", dict)
    finish_of(meta).require_not_aborted()
    field(meta, "prompt_tokens", int)
    if has_logprobs:
        for name in ("input_token_logprobs", "output_token_logprobs"):
            list_of(list, meta, name)
        if not meta["input_token_logprobs"]:
            raise ShapeError("it has logprobs of no token")
    return as_object(answer)  # type: ignore[no-any-return]
