"""Invalid tokens and parameters are refused before a request is sent, with the value."""

import math

import numpy as np
import pytest

from eager_sgl.engine.checks import require_params, require_tokens
from eager_sgl.engine.protocol import Json

SIZE, NUM_TOKENS = 36, 3


@pytest.mark.parametrize(
    ("token_ids", "said"),
    [
        ([120], "token id 120 at position 0 of the prompt is outside.*ids are 0 to 35"),
        ([1, 36], "token id 36 at position 1"),
        ([-1], "token id -1"),
        ([3, 10**9], r"token id 1000000000"),
        ([2**63], "token id 9223372036854775808"),
        (b"abc", "is b'abc'; decode bytes"),
        (bytearray(b"ab"), "decode bytes"),
        (memoryview(b"ab"), "decode bytes"),
        ([True, False], "position 0 of the prompt is True; it must be a token id"),
        ([1, 2.0], "position 1 of the prompt is 2.0"),
        ([math.nan], "is nan"),
        (["1"], "position 0 of the prompt is '1'"),
        ([None], "is None"),
        ([[1, 2]], "position 0 of the prompt is .1, 2."),
        ((1, "a"), "position 1"),
        (5, "is 5; it must be a list of token ids"),
        (None, "is None; it must be a list"),
        (1.5, "is 1.5; it must be a list"),
        (np.array([[1, 2], [3, 4]]), "position 0"),
        (np.array([1.0, 2.0]), "position 0"),
        (np.array([1, 36]), "token id 36 at position 1"),
        (np.array([True]), "position 0"),
    ],
)
def test_token_ids_outside_the_vocabulary_are_refused(token_ids: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        require_tokens("the prompt", token_ids, SIZE)


@pytest.mark.parametrize(
    "token_ids",
    [[0, 35], (0, 35), np.array([0, 35]), np.array([0, 35], np.uint8), range(0, 36, 35)],
)
def test_token_ids_of_the_model_are_plain_integers(token_ids: object) -> None:
    known = require_tokens("the prompt", token_ids, SIZE)
    assert known == (0, 35)
    assert set(map(type, known)) == {int}


@pytest.mark.parametrize(
    "params",
    [
        {"max_new_tokens": -1},
        {"max_new_tokens": 2**31},
        {"max_new_tokens": 10**30},
        {"max_new_tokens": 3.5},
        {"min_new_tokens": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": -0.5},
        {"temperature": "hot"},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_p": math.nan},
        {"top_k": 0},
        {"top_k": -2},
        {"top_k": 2**31},
        {"top_k": 2.0},
        {"top_k": True},
        {"min_p": -0.1},
        {"min_p": math.nan},
        {"frequency_penalty": 2.1},
        {"presence_penalty": -math.inf},
        {"top_logprobs_num": SIZE + 1},
        {"top_logprobs_num": -1},
        {"logprob_start_len": -2},
        {"logprob_start_len": NUM_TOKENS + 1},
    ],
    ids=str,
)
def test_a_number_outside_its_range_is_quoted(params: Json) -> None:
    with pytest.raises(
        ValueError, match=f"{next(iter(params))} is .*; it must be .*a .*number from"
    ):
        require_params(params, SIZE, NUM_TOKENS)


@pytest.mark.parametrize("token_ids", [[36], [-1], [True], b"a", [1.5], 7])
def test_stop_tokens_outside_the_vocabulary_are_refused(token_ids: object) -> None:
    with pytest.raises(ValueError, match="stop_token_ids"):
        require_params({"stop_token_ids": token_ids}, SIZE, NUM_TOKENS)


def test_numbers_inside_their_ranges_are_accepted() -> None:
    lowest: Json = {"max_new_tokens": 0, "temperature": 0, "top_p": 1e-9, "top_k": -1, "min_p": 0}
    highest: Json = {"top_k": 2**30, "top_logprobs_num": SIZE, "logprob_start_len": NUM_TOKENS}
    given: Json = {
        "logprob_start_len": -1,
        "stop_token_ids": [0, 35],
        "temperature": None,
        "regex": ".",
    }
    for params in (lowest, highest, given, {"stop_token_ids": None}, {}):
        require_params(params, SIZE, NUM_TOKENS)
