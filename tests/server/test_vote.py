"""Votes over boxed answers: extraction, the winner, and early stopping over HTTP."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest

from eager_sgl.core import Sequence
from eager_sgl.engine.protocol import Json
from eager_sgl.server.vote import boxed_answers, verdict_of
from tests.fakes.scripted import Distribution, ScriptedServer
from tests.server.upstream import MODEL, endpoint


def sequence(final_text: str, logprob: float | None = None) -> Sequence:
    return Sequence((1,), (0.0,), "stop", final_text=final_text, raw_logprob=logprob)


BOXES = {
    "no box": None,
    r"\boxed{12}": "12",
    r"first \boxed{1}, then \boxed{2}.": "2",
    r"\boxed{\frac{1}{2}} and \boxed{unclosed": r"\frac{1}{2}",
    r"\boxed{ 1 + x }": "1+x",
    r"\boxed{}": None,
    r"\boxed{{}": None,
    r"\boxed{1}" + r"\boxed{" * 5000: "1",
}


@pytest.mark.parametrize("text", BOXES)
def test_the_answer_is_in_the_last_box(text: str) -> None:
    assert boxed_answers([sequence(text)]) == [BOXES[text]]


def test_the_strongest_sequence_with_the_winning_answer_is_chosen() -> None:
    a, b = r"\boxed{a}", r"\boxed{b}"
    found = verdict_of([sequence(b, -1), sequence(a, -9), sequence("", 0), sequence(a, -4)])
    assert (found.answer, found.votes, found.sequence) == ("a", {"b": 1, "a": 2}, 3)


def test_without_an_answer_the_strongest_sequence_is_chosen() -> None:
    found = verdict_of([sequence("", -3), sequence("", -2), sequence("")])
    assert (found.answer, found.votes, found.sequence) == (None, {}, 1)


class Boxing(ScriptedServer):
    """A server whose texts end with a box of their last token."""

    def answer(self, path: str, body: Json | None = None) -> Json:
        answer = super().answer(path, body)
        if path == "/detokenize":
            texts = [text.split()[:-1] for text in answer["text"]]
            answer["text"] = [f"{' '.join(t)} \\boxed{{{t[-1]}}}" if t else "" for t in texts]
        return answer


def two_answers(second: float) -> Distribution:
    """Token 2, or 3 with a probability, then EOS."""

    def distribution(path: tuple[int, ...]) -> tuple[float, ...]:
        if path:
            return (1 - 4e-9, 1e-9, 1e-9, 1e-9, 1e-9)
        return (1e-9, 1e-9, 1 - second, second, 1e-9)

    return distribution


def vote(second: float, **fields: Any) -> Any:
    body = {"model": f"{MODEL}:vote", "prompt": [9], "max_tokens": 5, "temperature": 1.0}
    with endpoint(Boxing(two_answers(second))) as url:
        answer = httpx.post(f"{url}/v1/completions", json=body | fields, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_vote_ends_when_it_is_decided() -> None:
    answer = vote(1e-9, eager={"max_sequences": 32})
    (choice,) = answer["choices"]
    assert answer["eager"]["answer"] == "2"
    assert choice["text"].endswith(r"\boxed{2}")
    assert 4 <= answer["eager"]["sequences"] < 32
    assert answer["eager"]["confidence"] > 0.95


def test_a_vote_counts_every_sample() -> None:
    answer = vote(0.45, eager={"max_sequences": 16})
    votes = Counter(answer["eager"]["votes"])
    assert votes.total() == answer["eager"]["sequences"] <= 16
    assert votes[answer["eager"]["answer"]] == max(votes.values())
