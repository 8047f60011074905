"""The weights of votes: by probability, confidence and scores."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from typing import Literal

import pytest

from eager_sgl import Sequence
from eager_sgl.errors import EagerError, PlugInError, RequestRejectedError, ServerUnsuitableError
from eager_sgl.voting.reward import RewardModel
from eager_sgl.voting.votes import vote_weights
from eager_sgl.voting.weighing import by_confidence, by_count, by_probability, by_score
from tests.fakes.http_server import serving


def sequence(
    *token_ids: int, raw: float | None = None, confidences: tuple[float, ...] = ()
) -> Sequence:
    return Sequence(
        token_ids, (), "stop", raw_logprob=raw, confidences=confidences, final_text="42"
    )


def test_counts_are_equal() -> None:
    assert by_count([sequence(1), sequence(1)]) == [1.0, 1.0]


def test_a_repeated_sequence_weighs_its_probability_once() -> None:
    repeated, other = sequence(1, raw=math.log(0.5)), sequence(2, raw=math.log(0.25))
    assert by_probability([repeated, other, repeated]) == pytest.approx([1.0, 0.5, 0.0])
    assert by_probability([]) == []


def test_long_sequences_have_flattened_probabilities() -> None:
    surprisals = [400.0, 500.0]
    weights = by_probability([sequence(i, raw=-s) for i, s in enumerate(surprisals)])
    assert weights == vote_weights([-s for s in surprisals])
    assert weights[1] == pytest.approx(math.exp(-2.5))


def test_a_probability_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="shares=True"):
        by_probability([sequence(1, raw=-1.0), sequence(2)])


@pytest.mark.parametrize(("kind", "expected"), [("mean", 2.5), ("tail", 3.0), ("lowest", 1.5)])
def test_confidences(kind: Literal["mean", "tail", "lowest"], expected: float) -> None:
    weigh = by_confidence(kind, window=2)
    long, short = sequence(confidences=(4.0, 0.0, 3.0, 3.0)), sequence(confidences=(7.0,))
    probed = sequence(confidences=(*long.confidences, math.nan, 0.0))
    assert weigh([long, short, probed]) == [expected, 7.0, expected]
    with pytest.raises(ValueError, match="confidence of a step is not known"):
        weigh([sequence(1)])


def test_other_confidences_are_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'median'; it must be one of mean, tail, lowest"):
        by_confidence("median")  # type: ignore[arg-type]


def test_scores_are_weights_and_every_sequence_is_scored_once() -> None:
    asked: list[Sequence] = []

    def verifier(sequence: Sequence) -> bool:
        asked.append(sequence)
        return sequence.token_ids == (1,)

    weigh, sequences = by_score(verifier), [sequence(1), sequence(2), sequence(1)]
    assert weigh(sequences[:2]) == [1.0, 0.0]
    assert weigh(sequences) == [1.0, 0.0, 1.0]
    assert asked == sequences
    del sequences, asked[:]
    gc.collect()
    assert weigh([sequence(2)]) == [0.0]


def test_scores_of_any_sign_have_a_temperature() -> None:
    def score(sequence: Sequence) -> float:
        return float(sequence.token_ids[0])

    sequences = [sequence(-2), sequence(2)]
    assert by_score(score, temperature=2.0)(sequences) == pytest.approx([math.exp(-2), 1.0])
    assert by_score(score, temperature=2.0)([]) == []
    with pytest.raises(ValueError, match="a score is -2, .* pass a temperature"):
        by_score(score)(sequences)


@pytest.mark.parametrize("score", [lambda: 1.0, lambda sequence: "good", lambda sequence: math.inf])
def test_functions_that_are_no_scores_are_refused(score: Callable[..., float]) -> None:
    with pytest.raises((PlugInError, ValueError), match="score"):
        by_score(score)([sequence(1)])


TOKENS = json.dumps({"tokens": [5, 6], "count": 2, "max_model_len": 9})


def reply(*embedding: float) -> str:
    return json.dumps({"embedding": embedding, "meta_info": {}})


def test_a_reward_model_scores_the_prompt_and_the_answer() -> None:
    messages = [{"role": "user", "content": "6 · 7?"}]
    with serving((200, TOKENS), (200, reply(-1.5))) as (url, seen):
        assert RewardModel(url, messages)(sequence(1)) == -1.5
    tokenize, classify = seen
    assert (tokenize.path, classify.path) == ("/tokenize", "/classify")
    assert tokenize.body["messages"] == [*messages, {"role": "assistant", "content": "42"}]
    assert tokenize.body["add_generation_prompt"] is False
    assert classify.body == {"input_ids": [5, 6]}


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((200, reply(0.1, 0.2)), ServerUnsuitableError, "2 numbers for a text, where a reward"),
        ((200, reply()), ServerUnsuitableError, "0 numbers for a text"),
        ((400, '{"error": {"message": "add --is-embedding"}}'), RequestRejectedError, "is-embed"),
    ],
)
def test_other_servers_are_refused(
    answer: tuple[int, str], kind: type[EagerError], message: str
) -> None:
    with serving((200, TOKENS), answer) as (url, _), pytest.raises(kind, match=message):
        RewardModel(url, [{"role": "user", "content": "?"}])(sequence(1))
