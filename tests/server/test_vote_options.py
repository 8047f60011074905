"""Options of votes over HTTP: weights in events, cutting, probes, a price per token."""

from __future__ import annotations

from typing import Any

import pytest

from eager_sgl.engine.protocol import Json
from tests.fakes.decoding import DecodingServer
from tests.fakes.scripted import CLOSE, EOS, VOCABULARY, ScriptedServer
from tests.server.upstream import MODEL
from tests.server.votes import TEXT, USAGE, Boxing, events_of, post, two_answers, vote

RARE, LENGTH = 1e-9, 1000


def certain(token: int) -> tuple[float, ...]:
    rest = 1 - (VOCABULARY - 1) * RARE
    return tuple(rest if token == other else RARE for other in range(VOCABULARY))


def gated(second: float = 0.3) -> ScriptedServer:
    return Boxing(two_answers(second), allows_gate=True)


def vote_by(server: ScriptedServer, **eager: Any) -> Any:
    answer = post(0.0, TEXT | {"max_tokens": 1100, "eager": eager}, server)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(**fields: Any) -> str:
    answer = post(0.3, TEXT | fields)
    assert answer.status_code == 400, answer.text
    message: str = answer.json()["error"]["message"]
    return message


def votes_of(**eager: Any) -> tuple[list[Json], Json]:
    """The events of the votes of a stream, and the last entry of the bill."""
    fields = TEXT | USAGE | {"eager": {"events": True, "max_sequences": 16} | eager}
    events = events_of(post(0.3, fields))
    return [e for e in events if e["object"] == "eager.vote"], events[-1]["eager"]


@pytest.mark.parametrize("returned", ["best", "all"])
@pytest.mark.parametrize("weights", [None, "probability"])
def test_the_last_event_of_votes_is_the_result(weights: str | None, returned: str) -> None:
    fields: Json = {"return": returned} | ({} if weights is None else {"weights": weights})
    for _ in range(5):
        events, bill = votes_of(**fields)
        numbers = [event["sequences"] for event in events]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == bill["sequences"]
        last, shared = events[-1], ("answer", "votes", "counts")
        assert {name: last[name] for name in shared} == {name: bill[name] for name in shared}
        assert last.get("confidence") == bill.get("confidence")
        assert ("confidence" in last) == (weights is None)
        assert sum(last["counts"].values()) == bill["sequences"]
        if weights is None:
            assert last["counts"] == last["votes"]
        else:  # of two texts, of which each weighs once
            assert all(weight <= 1 for event in events for weight in event["votes"].values())


@pytest.mark.parametrize("method", ["best_first", "eager_init", "trie_parallel"])
def test_the_votes_of_other_methods_are_events_too(method: str) -> None:
    eager: Json = {"answer": "boxed", "return": "best", "max_sequences": 4}
    eager |= {"threshold": 0.1} if method == "eager_init" else {"stop": {"consensus": 0.99}}
    fields = {"model": f"{MODEL}:{method}", "eager": eager | {"events": True}}
    events = events_of(post(0.3, TEXT | USAGE | fields))
    last = [event for event in events if event["object"] == "eager.vote"][-1]
    bill = events[-1]["eager"]
    assert last["sequences"] == bill["sequences"]
    assert (last["votes"], last["answer"]) == (bill["votes"], bill["answer"])


def test_cut_samples_are_sequences_that_do_not_vote() -> None:
    """All steps have a confidence of a few nats, below a floor of 1,000."""
    cut = vote_by(gated(), max_sequences=6, cut={"window": 1, "floor": 1000.0})["eager"]
    assert (cut["sequences"], cut["votes"], cut["answer"]) == (6, {}, None)
    whole = vote_by(gated(), max_sequences=6, cut={"window": 1, "floor": 0.0})["eager"]
    assert sum(whole["votes"].values()) == whole["sequences"]
    first = vote_by(gated(), max_sequences=6, cut={"window": 1, "warmup": 2})["eager"]
    assert sum(first["votes"].values()) == first["sequences"] >= 2  # none is below their floor


def test_a_cut_needs_the_plugin_and_more_samples_than_its_first_ones() -> None:
    assert "eager.cut needs the plugin" in refusal(eager={"cut": {"floor": 1.0}})
    message = refusal(eager={"cut": {"warmup": 8}})
    assert "eager.cut.warmup is 8; it must be below max_sequences, which is 8" in message


def reasoning(path: tuple[int, ...]) -> tuple[float, ...]:
    """`LENGTH` tokens of reasoning, and after its end, whenever that is, token 3."""
    if CLOSE in path:
        return certain(EOS if path[-1] == 3 else 3)
    return certain(CLOSE if len(path) == LENGTH else 2)


class Decoding(Boxing, DecodingServer):
    """Decodes token by token, so that probes arrive before the end of a sample."""

    def __init__(self) -> None:
        DecodingServer.__init__(self)
        self.distribution = reasoning


PROBE: Json = {"text": "</think>", "interval": 16, "stable": 2, "max_answer_tokens": 3}


@pytest.mark.parametrize("stream", [True, False])
def test_probed_samples_end_with_a_stable_answer(stream: bool) -> None:
    server = Decoding()
    fields = TEXT | {"max_tokens": 1100, "eager": {"probe": PROBE, "return": "all"}}
    answer = post(0.0, fields | (USAGE if stream else {}), server)
    assert answer.status_code == 200, answer.text
    if stream:
        *events, last = events_of(answer)
        texts = ["".join(c["text"] for e in events for c in e["choices"] if c["index"] == 0)]
    else:
        last = answer.json()
        texts = [choice["text"] for choice in last["choices"]]
    assert last["eager"]["answer"] == "3"
    for text in texts:
        assert 32 <= text.count("2") < LENGTH
    unprobed = vote_by(Decoding())
    assert last["eager"]["answer"] == unprobed["eager"]["answer"]
    assert unprobed["choices"][0]["text"].count("2") == LENGTH


def test_a_price_ends_a_vote_whose_answers_are_not_worth_their_tokens() -> None:
    costly = vote(0.45, eager={"max_sequences": 16, "price": 1e9})["eager"]
    cheap = vote(0.45, eager={"max_sequences": 16, "price": 1e-9})["eager"]
    assert costly["sequences"] == 4  # the first wave needs no bid
    assert cheap["sequences"] > 4 or cheap["confidence"] > 0.95
    for method in ("trie_parallel", "best_first"):
        asked = {"method": method, "max_sequences": 8, "answer": "boxed", "price": 1e9}
        other = vote(0.45, model=MODEL, eager=asked)
        assert other["eager"]["sequences"] < 8
        assert len(other["choices"]) == other["eager"]["sequences"]


@pytest.mark.parametrize(
    ("field", "value", "method"),
    [
        ("cut", {}, "trie_parallel"),
        ("probe", PROBE, "best_first"),
        ("price", 0.1, "eager_init"),
    ],
)
def test_other_methods_refuse_options_of_votes(field: str, value: Any, method: str) -> None:
    fields = {"model": f"{MODEL}:{method}", "eager": {field: value, "threshold": 1.0}}
    if method != "eager_init":
        fields["eager"] = {field: value}
    assert f"eager.{field} is not offered by {method}" in refusal(**fields)
    assert f"eager.{field} is not offered by parallel" in refusal(
        model=f"{MODEL}:parallel", eager={field: value}
    )


def test_probed_samples_have_no_probabilities_to_weigh() -> None:
    assert "probed samples have none" in refusal(eager={"probe": PROBE, "weights": "probability"})


@pytest.mark.parametrize(
    ("eager", "words"),
    [
        ({"cut": {"widow": 3}}, "unknown field 'eager.cut.widow'; known are floor, keep, warmup,"),
        ({"probe": PROBE | {"a": 1}}, "known are interval, max_answer_tokens, stable, text"),
        ({"probe": {}}, "eager.probe.text"),
        ({"probe": PROBE | {"text": ""}}, "eager.probe.text"),
        ({"probe": PROBE | {"stable": 1000}}, "eager.probe.stable"),
        ({"cut": {"keep": 0}}, "eager.cut.keep"),
        ({"price": 0}, "eager.price"),
    ],
)
def test_wrong_options_are_named(eager: Json, words: str) -> None:
    assert words in refusal(eager=eager)
