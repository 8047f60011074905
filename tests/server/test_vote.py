"""Votes over HTTP: answers, early stopping, the choice, and its stream."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import httpx
import pytest

from eager_sgl.core import Sequence
from eager_sgl.server.limits import RequestLimits
from eager_sgl.server.voting.ballot import Ballot, Poll
from eager_sgl.server.voting.operators import OperatorAnswer
from eager_sgl.voting.answers import AnswerClasses, boxed_answer
from tests.server.upstream import MODEL, endpoint
from tests.server.votes import (
    CHAT,
    TEXT,
    TOOLS,
    USAGE,
    Boxing,
    deltas_of,
    events_of,
    post,
    two_answers,
    vote,
)

NUMBERS = itertools.count()


def sequence(final_text: str, logprob: float | None = None, reason: Any = "stop") -> Sequence:
    tokens = (next(NUMBERS),)
    return Sequence(tokens, (0.0,), reason, final_text=final_text, raw_logprob=logprob)


def ballot(*sequences: Sequence, weighs: bool = False) -> Ballot:
    return Poll(AnswerClasses(boxed_answer), weighs=weighs).ballot(sequences)


A, B = r"\boxed{a}", r"\boxed{b}"


def test_the_strongest_sequence_with_the_winning_answer_is_chosen() -> None:
    found = ballot(sequence(B, -1), sequence(A, -9), sequence("", 0), sequence(A, -4))
    assert (found.answer, found.votes, found.chosen) == ("a", {"b": 1, "a": 2}, 3)


def test_without_an_answer_the_strongest_sequence_is_chosen() -> None:
    found = ballot(sequence("", -3), sequence("", -2), sequence(""))
    assert (found.answer, found.votes, found.chosen) == (None, {}, 1)
    assert found.confidence is None
    assert ballot(sequence(A)).confidence is not None


def test_sequences_that_were_ended_do_not_vote_and_are_chosen_last() -> None:
    found = ballot(sequence(A, -1, "abort"), sequence(A, -1, "abort"), sequence(B, -9))
    assert (found.answer, found.votes, found.chosen) == ("b", {"b": 1}, 2)
    assert ballot(sequence("", -1, "abort"), sequence("", -9)).chosen == 1


def test_sequences_that_are_no_samples_weigh_as_much_as_their_probability() -> None:
    found = ballot(sequence(A, -3), sequence(A, -3), sequence(B, -1), weighs=True)
    assert found.answer == "b"
    assert found.confidence is None
    unknown = ballot(sequence(A), sequence(A), sequence(B, -1), weighs=True)
    assert unknown.answer == "a"


def test_sequences_that_do_not_vote_do_not_flatten_the_weights_of_others() -> None:
    ended, silent = sequence(A, -0.1, "abort"), sequence("", -0.1)
    voters = sequence(B, -40), sequence(A, -44), sequence(A, -44)
    found = ballot(ended, silent, *voters, weighs=True)
    assert found.votes == ballot(*voters, weighs=True).votes
    assert 0.2 < (found.votes or {})["a"] < 1
    unknown = ballot(sequence(A, None, "abort"), *voters, weighs=True)
    assert unknown.votes == found.votes


def test_a_sequence_that_has_finished_is_chosen_before_likelier_ones() -> None:
    found = ballot(sequence(A, -1, "length"), sequence(A, -9), sequence(A, -2, "length"))
    assert (found.answer, found.votes, found.chosen) == ("a", {"a": 3}, 1)


def test_a_vote_ends_when_it_is_decided() -> None:
    answer = vote(1e-9, eager={"max_sequences": 32})
    (choice,) = answer["choices"]
    assert answer["eager"]["answer"] == "2"
    assert choice["text"].endswith(r"\boxed{2}")
    assert answer["eager"]["sequences"] == 4  # four of four are the fewest that decide at 0.95
    assert answer["eager"]["confidence"] > 0.95
    sooner = vote(1e-9, eager={"max_sequences": 32, "stop": {"consensus": 0.8}})
    assert sooner["eager"]["sequences"] == 2


@pytest.mark.parametrize("weights", [None, "probability"])
@pytest.mark.parametrize("at_least", [3, 5, None])
def test_a_vote_ends_at_a_share_of_its_weights(at_least: int | None, weights: str | None) -> None:
    stop = {"share": 0.9} | ({} if at_least is None else {"at_least": at_least})
    eager = {"max_sequences": 32, "ahead": 0, "stop": stop, "weights": weights}
    details = vote(1e-9, eager=eager)["eager"]
    assert details["answer"] == "2"
    assert details["sequences"] == (at_least or 8)


def test_a_vote_without_sharing_costs_whole_samples() -> None:
    eager = {"max_sequences": 32, "shares": False}
    for second in (1e-9, 0.3):
        details = vote(second, eager=eager)["eager"]
        assert details["tokens"]["generated"] == details["tokens"]["naive"]
        assert sum(details["votes"].values()) == details["sequences"] >= 4
    assert vote(1e-9, eager=eager | {"shares": True})["eager"]["tokens"]["generated"] < 8
    refused = post(0.3, TEXT | {"model": f"{MODEL}:best_first", "eager": {"shares": True}})
    assert refused.status_code == 400
    assert "eager.shares" in refused.json()["error"]["message"]


def test_samples_of_a_vote_run_as_far_ahead_as_asked() -> None:
    eager = {"max_sequences": 32, "shares": False}
    for ahead in (None, 0, 0.0, 1):  # four equal votes decide
        details = vote(1e-9, eager=eager | {"ahead": ahead})["eager"]
        assert details["tokens"]["generated"] == 4 * 2
    details = vote(1e-9, eager=eager | {"ahead": 2})["eager"]
    assert (details["sequences"], details["tokens"]["generated"]) == (4, 8 * 2)
    refused = post(0.3, TEXT | {"model": f"{MODEL}:best_first", "eager": {"ahead": 1}})
    assert refused.status_code == 400
    assert "eager.ahead is not offered by best_first" in refused.json()["error"]["message"]
    for wrong in (-1, 1e308):
        refused = post(0.3, TEXT | {"model": f"{MODEL}:vote", "eager": {"ahead": wrong}})
        assert refused.status_code == 400
        assert "eager.ahead" in refused.json()["error"]["message"]


def test_samples_of_a_vote_may_weigh_as_much_as_their_probability() -> None:
    eager = {"max_sequences": 16, "weights": "probability"}
    votes = (vote(0.2, eager=eager)["eager"] for _ in range(99))
    details = next(details for details in votes if "3" in details["votes"])
    assert details["answer"] == "2"
    assert "confidence" not in details
    weights = details["votes"]  # of two texts, of which each votes once
    assert weights["2"] == pytest.approx(1.0)
    assert weights["3"] == pytest.approx(0.25, abs=0.02)
    for name, fields in (("vote", {"shares": False}), ("trie_parallel", {})):
        refused = post(0.2, TEXT | {"model": f"{MODEL}:{name}", "eager": eager | fields})
        assert refused.status_code == 400
        assert "eager.weights" in refused.json()["error"]["message"]


def test_a_vote_counts_every_sample() -> None:
    answer = vote(0.45, eager={"max_sequences": 16})
    votes = Counter(answer["eager"]["votes"])
    assert votes.total() == answer["eager"]["sequences"] <= 16
    assert votes[answer["eager"]["answer"]] == max(votes.values())


@pytest.mark.parametrize("method", ["vote", "trie_parallel", "best_first"])
def test_all_or_the_best_of_the_sequences_are_choices(method: str) -> None:
    eager = {"method": method, "max_sequences": 5, "answer": "boxed"}
    eager |= {"stop": {"consensus": 0.99}}  # not reached by five samples, nor by two paths
    whole = vote(0.3, model=MODEL, eager=eager | {"return": "all"})
    assert len(whole["choices"]) == whole["eager"]["sequences"]
    chosen = whole["choices"][whole["eager"]["chosen"]]["text"]
    assert chosen.endswith(f"\\boxed{{{whole['eager']['answer']}}}")
    best = vote(0.3, model=MODEL, eager=eager | {"return": "best"})
    assert len(best["choices"]) == 1
    assert best["choices"][0]["text"].endswith(f"\\boxed{{{best['eager']['answer']}}}")


@pytest.mark.parametrize(
    ("answer", "expected"), [({"regex": r"boxed.(\d)"}, "2"), ("json", None), ("boxed", "2")]
)
def test_answers_are_found_as_the_request_says(answer: Any, expected: str | None) -> None:
    assert vote(1e-9, eager={"answer": answer})["eager"]["answer"] == expected


@pytest.mark.parametrize("stream", [True, False])
def test_a_pattern_that_is_too_slow_is_the_clients_error(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr("eager_sgl.voting.answers._MAX_SECONDS", -1.0)
    answer = post(0.3, TEXT | {"stream": stream, "eager": {"answer": {"regex": "."}}})
    error = events_of(answer)[-1]["error"] if stream else answer.json()["error"]
    assert answer.status_code == (200 if stream else 422)
    assert "takes too long" in error["message"]
    assert error["param"] == "eager.answer.regex"


def last_digit(text: str) -> str | None:
    return f"digit {text[-2]}" if text.endswith("}") else None


def wrong(text: str) -> str | None:
    raise ValueError("this function fails")


def post_with(readers: Any, answer: str, **fields: Any) -> httpx.Response:
    body = {"model": f"{MODEL}:vote", "temperature": 1.0, "eager": {"answer": answer}}
    limits = RequestLimits(readers=readers)
    with endpoint(Boxing(two_answers(1e-9)), limits=limits) as url:
        return httpx.post(f"{url}/v1/completions", json=body | TEXT | fields, timeout=30)


def test_answers_are_found_by_a_function_of_the_operator() -> None:
    answer = post_with({"digits": OperatorAnswer("digits", last_digit)}, "digits")
    assert answer.json()["eager"]["votes"] == {"digit 2": 4}


def test_an_unknown_reader_is_refused_with_the_known_ones() -> None:
    readers = {"digits": OperatorAnswer("digits", last_digit)}
    for name in ("digit", ""):
        answer = post_with(readers, name)
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert all(known in message for known in ("boxed", "json", "tool_call", "digits", "regex"))


@pytest.mark.parametrize("stream", [True, False])
def test_a_reader_that_fails_is_an_error_of_the_server_in_its_log(
    caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """Its ValueError is not the client's fault."""
    readers = {"digits": OperatorAnswer("digits", wrong)}
    answer = post_with(readers, "digits", stream=stream)
    error = events_of(answer)[-1]["error"] if stream else answer.json()["error"]
    assert answer.status_code == (200 if stream else 500)
    assert error["type"] == "server_error"
    assert "this function fails" not in error["message"]
    assert "answer reader 'digits' raised ValueError: this function fails" in caplog.text


def test_calls_of_tools_are_voted_on_and_given_in_openais_form() -> None:
    fields = CHAT | TOOLS | {"eager": {"answer": "tool_call"}}
    answer = post(1e-9, fields).json()
    assert answer["eager"]["answer"] == '[{"arguments":{"x":2},"name":"f"}]'
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"x": 2.0}'}
    deltas = [delta for delta in deltas_of(post(1e-9, fields | {"stream": True})) if delta]
    (streamed,) = deltas[-1]["tool_calls"]
    assert streamed["index"] == 0
    assert streamed["function"] == call["function"]


@pytest.mark.parametrize("with_events", [False, True])
def test_a_stream_has_the_first_sequence_as_reasoning_and_the_winner_as_content(
    with_events: bool,
) -> None:
    response = post(0.3, CHAT | USAGE | {"eager": {"events": with_events}})
    events, deltas = events_of(response), deltas_of(response)
    assert all("reasoning_content" in delta for delta in deltas), "as in SGLang's own"
    reasoning = "".join(delta["reasoning_content"] or "" for delta in deltas)
    content = "".join(delta.get("content", "") for delta in deltas)
    last = events[-1]
    assert content.endswith(f"\\boxed{{{last['eager']['answer']}}}")
    assert reasoning.endswith("}")
    assert deltas[1]["reasoning_content"]
    assert {choice["index"] for event in events for choice in event["choices"]} == {0}
    assert response.text.endswith("data: [DONE]\n\n")
    kinds = Counter(event["object"] for event in events)
    assert (kinds["eager.finish"] == last["eager"]["sequences"]) == with_events
    votes = [event for event in events if event["object"] == "eager.vote"]
    assert bool(votes) == with_events
    if with_events:
        assert votes[-1]["votes"] == last["eager"]["votes"]
        texts = [event["text"] for event in events if event["object"] == "eager.text"]
        assert "".join(texts).count("boxed") == last["eager"]["sequences"]


def test_a_streamed_completion_has_the_winner_alone() -> None:
    events = events_of(post(0.3, TEXT | USAGE))
    texts = [choice["text"] for event in events for choice in event["choices"]]
    assert "".join(texts).endswith(f"\\boxed{{{events[-1]['eager']['answer']}}}")
    assert "".join(texts).count("boxed") == 1


def test_all_sequences_of_a_vote_may_be_streamed() -> None:
    fields = TEXT | USAGE | {"eager": {"return": "all", "max_sequences": 5}}
    events = events_of(post(0.3, fields))
    choices = [choice for event in events for choice in event["choices"]]
    assert {choice["index"] for choice in choices} == set(range(events[-1]["eager"]["sequences"]))
