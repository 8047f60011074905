"""Token ids of a program's states.

SGLang's frontend keeps text, and text does not round-trip to the tokens it was decoded from. The
token ids are kept among a state's variables, which SGLang copies to its forks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sglang.lang.interpreter import StreamExecutor

from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.loop import run
from eager_sgl.engine.text_answers import TextAnswer
from eager_sgl.errors import RequestRejectedError

__all__ = ["TOKENS", "StateTokens", "append_answer", "keep_tokens", "require_text", "tokens_in"]

TOKENS = "eager_sgl.tokens"
"""The variable that holds a state's `StateTokens`, or the error that its parent failed with."""


@dataclass(frozen=True)
class StateTokens:
    """The tokens of a state.

    Attributes:
        ids: of the state's text up to the end of `text`.
        text: the part of the state's text whose tokens are known.
        num_prefilled: leading tokens that the model has processed.
        from_text: whether all tokens are those of `text`, so that the text can stand in for them.
    """

    ids: tuple[int, ...]
    text: str
    num_prefilled: int = 0
    from_text: bool = True

    def extended(self, ids: Sequence[int], text: str) -> StateTokens:
        """After tokens that the program has appended, which the text does not stand for."""
        return replace(self, ids=(*self.ids, *ids), text=self.text + text, from_text=False)

    def generated(self, ids: Sequence[int], text: str) -> StateTokens:
        """After a generation: the model has processed all tokens but the last."""
        ids = (*self.ids, *ids)
        return replace(self, ids=ids, text=self.text + text, num_prefilled=len(ids) - 1)

    def append(self, of_fork: object) -> None:
        """Ignore the tokens of a fork.

        SGLang's `join` appends a variable of a fork to that of its parent if the parent has first
        filled it since `join` began to wait: the parent was generating, too.
        """


def keep_tokens(s: StreamExecutor, tokens: StateTokens) -> None:
    """Replace the known tokens of a state."""
    s.variables[TOKENS] = tokens


def _known_tokens(s: StreamExecutor) -> StateTokens | None:
    known: StateTokens | list[Any] | Exception | None = s.variables.get(TOKENS)
    if isinstance(known, Exception):
        raise known
    # `join` gathers a fork's variables in lists of its parent, the tokens too.
    return None if isinstance(known, list) else known


def tokens_in(s: StreamExecutor, client: TokenClient) -> StateTokens:
    """The tokens of a state's whole text; text that was appended since is tokenised.

    Raises:
        RequestRejectedError: the program has changed text that generated tokens stand for.
    """
    known = _known_tokens(s)
    if known is None or (known.from_text and not s.text_.startswith(known.text)):
        known = StateTokens(run(client.encode(s.text_)), s.text_)
    elif not s.text_.startswith(known.text):
        raise RequestRejectedError(
            f"the state's text no longer starts with {known.text!r}, whose tokens it continues; "
            "only append to a state that started with set_prompt"
        )
    elif added := s.text_[len(known.text) :]:
        known = replace(known, ids=(*known.ids, *run(client.encode_more(added))), text=s.text_)
    keep_tokens(s, known)
    return known


def append_answer(s: StreamExecutor, client: TokenClient, answer: TextAnswer) -> None:
    """Append the tokens of a generated text, whose text the interpreter appends.

    Where a stop string cut the text inside a token, `tokens_in` tokenises the text instead.
    """
    if answer.token_ids is not None:
        keep_tokens(s, tokens_in(s, client).generated(answer.token_ids, answer.text))


def require_text(s: StreamExecutor, client: TokenClient, feature: str) -> None:
    """Check that a state's text can stand in for its tokens.

    Args:
        feature: of SGLang that sends text, for the error.

    Raises:
        RequestRejectedError: the text cannot.
    """
    if not tokens_in(s, client).from_text:
        raise RequestRejectedError(
            f"{feature} works on text alone, and this state started with set_prompt or holds "
            "tokens of continue_from, fork or append_tokens; begin it with text"
        )
