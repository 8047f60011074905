"""States of SGLang programs at the ends of sequences, and the tokens of states.

    states = fork(s, EagerInit(EagerConfig(threshold=2.0)))
    states += "\\nIn one word: " + sgl.gen("word", max_tokens=4)
    states.join()  # s["word"] is the list of their words

`read_chunk` and `append_tokens` are what a program needs to branch by itself
(`programs/eager_by_hand.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items

from sglang.lang.interpreter import ProgramState, ProgramStateGroup

from eager_sgl.budget.sequences import Account
from eager_sgl.core import PromptResult, TopLogprobs
from eager_sgl.engine.frontend.endpoint import endpoint_of
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.shapes import ShapeError
from eager_sgl.engine.text_answers import LOGPROB_TEMPERATURE, parse_chunk
from eager_sgl.errors import MalformedAnswerError
from eager_sgl.generate.observers import OnProgress
from eager_sgl.methods import Method
from eager_sgl.program import eager_generate

__all__ = ["SequenceStates", "append_tokens", "fork", "read_chunk"]


class SequenceStates(ProgramStateGroup):  # type: ignore[misc]
    """A group of states, each at the end of a sequence.

    Attributes:
        states: in the order of `result.sequences`.
        result: the sequences, and their cost.
    """

    def __init__(
        self, states: list[ProgramState], source: ProgramState, result: PromptResult
    ) -> None:
        super().__init__(states, source)
        self.result = result

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[ProgramState]:
        return iter(self.states)


def fork(
    s: ProgramState,
    method: Method,
    *,
    account: Account | None = None,
    on_progress: OnProgress | None = None,
) -> SequenceStates:
    """Fork a state into the sequences that a method generates from it.

    The arguments and errors are those of `eager_generate`. A state is a thread, so that M states
    cost M threads.

    Returns:
        One state per sequence, at its end, as after `continue_from`: a stop token at the end is
        omitted, and the next request of the state has a single uncached token.
    """
    result = eager_generate(s, method, account=account, on_progress=on_progress)
    endpoint = endpoint_of(s)
    paths = [sequence.open_token_ids for sequence in result.sequences]
    # A fork of several would request the prompt again, which is cached.
    states = [s.fork(1)[0] for _ in paths]
    for state, path, text in zip(states, paths, endpoint.decode(paths), strict=True):
        endpoint.append_tokens(state, path, text)
    return SequenceStates(states, s, result)


def append_tokens(s: ProgramState, token_ids: Items[int], text: str | None = None) -> None:
    """Append tokens of the model to a state, token for token.

    Args:
        token_ids: the model's.
        text: what the state's text is extended by; decoded by the server, special tokens left out,
            if None.

    Raises:
        ValueError: the model has no such token.
        RequestRejectedError: the state has ended.
    """
    endpoint = endpoint_of(s)
    ids = endpoint.require_known("token_ids", token_ids)
    endpoint.append_tokens(s, ids, endpoint.decode([ids])[0] if text is None else text)


def read_chunk(s: ProgramState, name: str) -> tuple[tuple[int, ...], TopLogprobs]:
    """The tokens of a generated text, and the most likely tokens at each step.

    Args:
        name: of a variable that the state has filled by `sgl.gen(name, return_logprob=True,
            top_logprobs_num=K)`.

    Returns:
        C token ids, and the K most likely tokens of the C steps. A stop token at the end is among
        them, and not among the state's tokens.

    Raises:
        ValueError: there is no such variable; or its text is not of a single request of this
            state for logprobs, or ended at a stop string, perhaps inside a token.
    """
    if (meta := _meta_info(s, name)) is None:
        raise ValueError(f"the state has not generated {name!r} itself; read it where sgl.gen did")
    if isinstance(meta, list):
        raise ValueError(f"{name!r} holds {len(meta)} texts; a chunk is a single one, of n=1")
    if LOGPROB_TEMPERATURE not in meta or "output_top_logprobs" not in meta:
        raise ValueError(
            f"{name!r} was generated without logprobs, or in a stream; pass return_logprob=True "
            "and top_logprobs_num=20 to its sgl.gen"
        )
    try:
        return parse_chunk(meta)
    except ShapeError as error:
        raise MalformedAnswerError(f"the answer for {name!r} is not SGLang's: {error}") from error


def _meta_info(s: ProgramState, name: str) -> Json | list[Json] | None:
    """The `meta_info` of a variable, once it is filled; None where another state filled it."""
    endpoint_of(s)
    try:
        _ = s[name]
    except KeyError:
        raise ValueError(f"the state has no variable {name!r}") from None
    meta: Json | list[Json] | None = s.get_meta_info(name)
    return meta
