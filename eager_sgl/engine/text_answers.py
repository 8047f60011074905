"""Answers of `/generate` to the requests of a state: generated texts, and scores of texts."""

from __future__ import annotations

from dataclasses import dataclass

from eager_sgl.engine.protocol import Json, finish_of
from eager_sgl.engine.shapes import ShapeError, as_object, field, list_of

__all__ = ["TextAnswer", "parse_score", "parse_text_answer"]


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
