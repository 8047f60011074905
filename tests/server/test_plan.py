"""Which requests a tree answers, and which fields are refused by name."""

from __future__ import annotations

import re
from dataclasses import replace
from types import UnionType
from typing import Any, Union, get_args, get_origin

import orjson
import pytest
from pydantic import BaseModel

from eager_sgl.engine.probe import ServerProfile
from eager_sgl.methods import BestFirst, EagerInit, TrieParallel, Vote
from eager_sgl.search.stopping import Consensus, Unexplored
from eager_sgl.server import schema
from eager_sgl.server.errors import ApiError
from eager_sgl.server.facts import Facts
from eager_sgl.server.limits import RequestLimits
from eager_sgl.server.plan import AnswerPlan, plan_of
from eager_sgl.server.schema import (
    REFUSED,
    Chat,
    Completion,
    EagerOptions,
    TokenRequest,
    body_of,
)

PROFILE = ServerProfile("a/model", "0.5.23", 4096, 1, "tempered", 1000)
FACTS = Facts(model="m", profile=PROFILE, chat_defaults={})
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "a"}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}]}
LAW = {"temperature": 0.6, "top_p": 0.95}


def body(fields: dict[str, Any]) -> TokenRequest:
    return body_of(Chat if "messages" in fields else Completion, orjson.dumps(fields))


def plan(fields: dict[str, Any], facts: Facts = FACTS) -> AnswerPlan:
    return plan_of(body(fields), facts, RequestLimits())


@pytest.mark.parametrize("base", [CHAT, TEXT])
def test_several_samples_go_through_the_trie(base: dict[str, Any]) -> None:
    method = plan(base | LAW | {"n": 4}).method
    assert isinstance(method, TrieParallel)
    assert method.max_sequences == 4
    assert (method.sampling.temperature, method.sampling.top_p) == (0.6, 0.95)


@pytest.mark.parametrize(
    ("probe", "number"),
    [
        ({"interval": 64, "max_answer_tokens": 24}, 32),
        ({"interval": 1, "max_answer_tokens": 24, "stable": 4}, 40),
    ],
)
def test_probes_of_a_vote_count_as_sequences_in_flight(probe: dict[str, Any], number: int) -> None:
    """A part of a sample's answer may open `stable` of them at once."""
    eager = {"method": "vote", "max_sequences": 8}
    assert plan(CHAT | LAW | {"eager": eager}).max_in_flight == 8
    eager["probe"] = {"text": "</think>"} | probe
    assert plan(CHAT | LAW | {"eager": eager}).max_in_flight == number


def test_seeds_of_a_tree_are_from_0_on_and_different_for_every_integer() -> None:
    given = [-(2**63), -1, 0, 1, 2**63 - 1]
    methods = [plan(TEXT | LAW | {"n": 4, "seed": seed}).method for seed in given]
    seeds = [method.seed for method in methods if isinstance(method, TrieParallel)]
    assert len(set(seeds)) == len(given)
    assert seeds[2:] == given[2:]
    assert min(seed or 0 for seed in seeds) >= 0


def test_a_single_sample_goes_to_the_servers_route() -> None:
    assert plan(CHAT | LAW) == AnswerPlan("parallel", 1)


ONLY_THE_SERVER: dict[str, dict[str, Any]] = {
    "min_p": {"min_p": 0.1},
    "stop": {"stop": ["."]},
    "stop_token_ids": {"stop_token_ids": [7]},
    "presence_penalty": {"presence_penalty": 0.1},
    "logit_bias": {"logit_bias": {"7": 1.0}},
    "logprobs": {"logprobs": True},
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "response_format": {"response_format": {"type": "json_object"}},
}


@pytest.mark.parametrize("words", ONLY_THE_SERVER)
def test_what_a_trie_cannot_do_exactly_goes_to_the_servers_route(words: str) -> None:
    found = plan(CHAT | LAW | {"n": 4} | ONLY_THE_SERVER[words])
    assert found.method is None
    assert found.num_sequences == 4
    assert words in (found.reason or "")


@pytest.mark.parametrize("number", [0, 1])
def test_logprobs_of_completions_are_a_number_and_not_false(number: int) -> None:
    """With 0 alternatives the drawn tokens have logprobs, which a tree's answer does not."""
    found = plan(TEXT | LAW | {"n": 4, "logprobs": number})
    assert found.method is None
    assert "logprobs" in (found.reason or "")
    with pytest.raises(ApiError, match="logprobs"):
        plan(TEXT | LAW | {"model": "m:vote", "logprobs": number})


@pytest.mark.parametrize("name", ["store", "metadata"])
@pytest.mark.parametrize("value", [0, 1, True])
def test_a_number_is_no_false_in_a_field_that_is_not_offered(name: str, value: object) -> None:
    with pytest.raises(ApiError, match=f"{name} is not offered"):
        body(CHAT | {name: value})


NEUTRAL: dict[str, Any] = {
    "top_k": -1,
    "min_p": 0,
    "stop": None,
    "frequency_penalty": 0.0,
    "response_format": {"type": "text"},
    "logprobs": False,
    "user": "u",
}


def test_values_that_change_nothing_do_not_keep_a_request_from_the_trie() -> None:
    assert plan(CHAT | LAW | {"n": 4} | NEUTRAL).name == "trie_parallel"


def test_content_that_must_not_be_empty_is_left_to_the_servers_route() -> None:
    """SGLang's reasoning parsers then move the reasoning into the content."""
    parsing = replace(FACTS, reasoning_parser="qwen3")
    fields = CHAT | LAW | {"n": 4, "chat_template_kwargs": {"force_nonempty_content": True}}
    found = plan(fields, parsing)
    assert found.method is None
    assert "force_nonempty_content" in (found.reason or "")
    with pytest.raises(ApiError, match="force_nonempty_content"):
        plan(fields | {"model": "m:best_first"}, parsing)
    assert plan(fields, FACTS).method is not None, "nothing is split off"
    assert plan(CHAT | LAW | {"n": 4}, parsing).method is not None


@pytest.mark.parametrize(
    ("defaults", "name"),
    [
        (None, "parallel"),
        ({"temperature": 0.6, "top_p": 0.95}, "trie_parallel"),
        ({"temperature": 0.6, "top_p": 0.95, "top_k": 20}, "trie_parallel"),
        ({"temperature": 0.6, "min_p": 0.1}, "parallel"),
        ({}, "trie_parallel"),
    ],
)
def test_a_chat_has_the_defaults_of_the_server(defaults: Any, name: str) -> None:
    facts = Facts(model="m", profile=PROFILE, chat_defaults=defaults)
    assert plan(CHAT | {"n": 4}, facts).name == name


def test_completions_have_the_defaults_of_openai() -> None:
    facts = Facts(model="m", profile=PROFILE, chat_defaults={"temperature": 0.6, "top_p": 0.95})
    method = plan(TEXT | {"n": 4}, facts).method
    assert method is not None
    assert (method.sampling.temperature, method.sampling.top_p) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("gate", "temperature", "is_known"),
    [(None, 0.6, False), (None, 1.0, True), (None, 0.0, True), ("plugin", 0.6, True)],
)
def test_raw_logprobs_of_another_temperature_are_of_no_use_to_a_trie(
    gate: Any, temperature: float, is_known: bool
) -> None:
    raw = Facts(model="m", profile=replace(PROFILE, logprobs="raw", gate=gate), chat_defaults={})
    found = plan(CHAT | {"n": 4, "temperature": temperature, "top_p": 1.0}, raw)
    assert (found.reason is None) == is_known
    assert is_known or "raw logprobs" in (found.reason or "")


@pytest.mark.parametrize(
    ("eager", "kind"),
    [
        ({"method": "best_first"}, BestFirst),
        ({"method": "vote"}, Vote),
        ({"method": "vote", "answer": "json", "return": "all"}, Vote),
        ({"method": "trie_parallel"}, TrieParallel),
        ({"method": "eager_init", "threshold": 2.0}, EagerInit),
    ],
)
def test_a_method_is_named(eager: dict[str, Any], kind: Any) -> None:
    method: Any = plan(CHAT | {"eager": eager | {"max_sequences": 3}}).method
    assert isinstance(method, kind)
    assert method.max_sequences == 3
    assert method.sampling.max_new_tokens == 4096


@pytest.mark.parametrize("method", ["trie_parallel", "best_first"])
def test_a_stop_rule_ends_a_search(method: str) -> None:
    found: Any = plan(CHAT | {"eager": {"method": method, "stop": {"unexplored": 0.1}}})
    assert (found.method.stop, found.poll.classes) == (Unexplored(0.1), None)
    found = plan(CHAT | {"eager": {"method": method, "stop": {"consensus": 0.9}}})
    assert found.poll.classes is not None
    assert found.method.stop == Consensus(found.poll, 0.9)


def test_a_vote_has_one_choice_unless_all_are_asked_for() -> None:
    returned = {"vote": "best", "best_first": "all", "trie_parallel": "all"}
    for method, default in returned.items():
        assert plan(CHAT | {"eager": {"method": method}}).returns == default
        for other in ("best", "all"):
            assert plan(CHAT | {"eager": {"method": method, "return": other}}).returns == other


def test_all_sequences_of_all_prompts_run_at_the_same_time() -> None:
    assert plan(TEXT | {"prompt": ["a", "b", "c"], "n": 2}).max_in_flight == 6
    assert plan(CHAT | {"model": "m:vote", "eager": {"max_sequences": 5}}).max_in_flight == 5


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown": (CHAT | {"temprature": 1}, 400, "temprature"),
    "known fields": (CHAT | {"temprature": 1}, 400, "temperature, timeout"),
    "unknown option": (CHAT | {"eager": {"theta": 2}}, 400, "eager.theta"),
    "known options": (CHAT | {"eager": {"theta": 2}}, 400, "threshold, token_budget"),
    "best of n": (
        CHAT | {"n": 3, "eager": {"method": "best_first", "return": "best"}},
        400,
        "one choice",
    ),
    "a return": (CHAT | {"eager": {"method": "best_first", "return": "some"}}, 400, "'best' or"),
    "parallel's sharing": (
        CHAT | {"eager": {"method": "parallel", "shares": False}},
        400,
        "eager.shares is not offered by parallel",
    ),
    "sharing without a method": (
        CHAT | {"n": 8, "eager": {"shares": False}},
        400,
        "eager.shares needs a method",
    ),
    "parallel's best": (
        CHAT | {"eager": {"method": "parallel", "return": "best"}},
        400,
        "eager.return is not offered by parallel",
    ),
    "choices of a vote": (CHAT | {"model": "m:vote", "n": 3}, 400, "one choice"),
    "a vote's answer": (CHAT | {"eager": {"method": "vote", "answer": "xml"}}, 400, "boxed"),
    "a pattern": (CHAT | {"eager": {"method": "vote", "answer": {"regex": "("}}}, 400, "RE2"),
    "no pattern": (CHAT | {"eager": {"method": "vote", "answer": {"re": "a"}}}, 400, "PATTERN"),
    "no tools": (CHAT | {"eager": {"method": "vote", "answer": "tool_call"}}, 400, "no tools"),
    "no parser": (
        CHAT | TOOLS | {"eager": {"method": "vote", "answer": "tool_call"}},
        400,
        "--tool-call-parser",
    ),
    "a vote on calls without calls": (
        CHAT | TOOLS | {"tool_choice": "none", "eager": {"method": "vote", "answer": "tool_call"}},
        400,
        'tool_choice is "none"',
    ),
    "a vote on calls one by one": (
        CHAT
        | TOOLS
        | {"parallel_tool_calls": False, "eager": {"method": "vote", "answer": "tool_call"}},
        400,
        "parallel_tool_calls is false",
    ),
    "a stream of calls": (
        CHAT
        | TOOLS
        | {"stream": True, "eager": {"method": "vote", "answer": "tool_call", "return": "all"}},
        400,
        "not streamed",
    ),
    "tools without a vote on them": (CHAT | TOOLS | {"model": "m:vote"}, 400, "tools"),
    "no vote": (CHAT | {"eager": {"method": "best_first", "answer": "boxed"}}, 400, "for vote"),
    "no stop": (CHAT | {"eager": {"method": "vote", "stop": {}}}, 400, "one rule"),
    "two stops": (
        CHAT | {"eager": {"method": "best_first", "stop": {"consensus": 0.9, "unexplored": 0.1}}},
        400,
        "one rule",
    ),
    "a consensus and a share": (
        CHAT | {"eager": {"method": "vote", "stop": {"consensus": 0.9, "share": 0.9}}},
        400,
        "one rule",
    ),
    "a share of a half": (CHAT | {"eager": {"method": "vote", "stop": {"share": 0.5}}}, 400, "0.5"),
    "votes without a share": (
        CHAT | {"eager": {"method": "vote", "stop": {"consensus": 0.9, "at_least": 3}}},
        400,
        "give share too",
    ),
    "a search's share": (
        CHAT | {"eager": {"method": "best_first", "stop": {"share": 0.9}}},
        400,
        "stop.share is not offered by best_first",
    ),
    "a stop": (
        CHAT | {"eager": {"method": "vote", "stop": {"solved": 1}}},
        400,
        "at_least, consensus, share, unexplored",
    ),
    "a consensus": (CHAT | {"eager": {"method": "vote", "stop": {"consensus": 0.5}}}, 400, "0.5"),
    "a vote's stop": (
        CHAT | {"eager": {"method": "vote", "stop": {"unexplored": 0.1}}},
        400,
        "stop.unexplored is not offered by vote",
    ),
    "eager_init's stop": (
        CHAT | {"eager": {"method": "eager_init", "threshold": 1, "stop": {"consensus": 0.9}}},
        400,
        "eager.stop is not offered by eager_init",
    ),
    "a vote's θ": (CHAT | {"eager": {"method": "vote", "threshold": 2}}, 400, "eager.threshold"),
    "no model": (CHAT | {"model": "other"}, 404, "'m'"),
    "no method": (CHAT | {"model": "m:swor"}, 404, "trie_parallel"),
    "no threshold": (CHAT | {"eager": {"method": "eager_init"}}, 400, "eager.threshold"),
    "two methods": (CHAT | {"model": "m:best_first", "eager": {"method": "parallel"}}, 400, "one"),
    "two numbers": (CHAT | {"n": 2, "eager": {"max_sequences": 3}}, 400, "max_sequences is 3"),
    "too many": (CHAT | {"n": 129}, 400, "at most 128"),
    "not a tree's": (CHAT | {"model": "m:best_first", "stop": "."}, 400, "stop"),
    "a budget": (CHAT | {"eager": {"token_budget": 9}}, 400, "eager.token_budget needs a method"),
    "temperature": (CHAT | {"temperature": -1}, 400, "temperature is -1"),
    "a word": (CHAT | {"temperature": "hot"}, 400, "temperature"),
    "no messages": ({"model": "m", "messages": []}, 400, "messages"),
    "no tokens": (CHAT | {"max_tokens": 0}, 400, "max_tokens"),
    "a wrong token": (CHAT | {"stop_token_ids": [5000]}, 400, "5000"),
    "too many prompts": (TEXT | {"prompt": ["a"] * 65, "n": 2}, 400, "for 65 prompts"),
    "no prompt": (TEXT | {"prompt": []}, 400, "empty"),
    "an empty prompt": (TEXT | {"prompt": ["a", ""]}, 400, "empty"),
    "a token outside": (TEXT | {"prompt": [[1], [1000]]}, 400, "outside the model's vocabulary"),
    "logprobs": (TEXT | {"logprobs": 2000}, 400, "top_logprobs_num"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_by_name(name: str) -> None:
    fields, status, words = WRONG[name]
    with pytest.raises((ApiError, ValueError)) as refused:
        plan(fields)
    assert words in str(refused.value)
    assert getattr(refused.value, "status", 400) == status


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        (TEXT | {"prompt": 5}, "prompt", "prompt: it must be a string, an array of token ids"),
        (TEXT | {"prompt": [[1], "a"]}, "prompt", "or an array of strings"),
        ({"model": "m"}, "prompt", "prompt: field required"),
        (TEXT | {"stop": 5}, "stop", "stop: it must be a string or an array of strings"),
        (TEXT | {"stop": [1]}, "stop", "stop: it must be a string or an array of strings"),
        (TEXT | {"stop_regex": {}}, "stop_regex", "a string or an array of strings"),
        (CHAT | {"tool_choice": 5}, "tool_choice", 'tool_choice: it must be "auto"'),
        (CHAT | {"reasoning_effort": []}, "reasoning_effort", "a string or a number"),
        (CHAT | {"eager": {"answer": 5}}, "eager.answer", "eager.answer: it must be the name"),
        (CHAT | {"eager": {"stop": 5}}, "eager.stop", "eager.stop: "),
    ],
)
def test_a_field_of_several_types_is_named_with_all_of_them(
    fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(ApiError, match=re.escape(words)) as refused:
        body(fields)
    assert refused.value.body["error"]["param"] == param


def test_every_field_of_several_types_has_its_words() -> None:
    models: dict[str, list[type[BaseModel]]] = {"": [Chat, Completion], "eager.": [EagerOptions]}
    several = {
        prefix + (field.alias or name)
        for prefix, kinds in models.items()
        for kind in kinds
        for name, field in kind.model_fields.items()
        if get_origin(field.annotation) in (Union, UnionType)
        and len({*get_args(field.annotation)} - {type(None)}) > 1
    }
    assert several == set(schema._ALTERNATIVES)


def test_fields_of_extra_body_are_those_of_the_body() -> None:
    eager = {"eager": {"method": "best_first"}}
    assert body(CHAT | {"extra_body": eager | LAW, "temperature": 0.6}) == body(CHAT | LAW | eager)
    empty: list[Any] = [{}, None]
    for nothing in empty:
        assert body(CHAT | {"extra_body": nothing}) == body(CHAT)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([1], "extra_body is no JSON object"),
        ({"n": 2}, "n has another value in extra_body"),
        ({"unknown": 1}, "unknown field 'unknown'"),
        ({"best_of": 2}, "best_of is not offered"),
    ],
)
def test_a_wrong_extra_body_is_refused(extra: object, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        body(CHAT | {"n": 3, "extra_body": extra})


def test_values_that_ask_for_nothing_are_taken() -> None:
    nothing: dict[str, Any] = {
        "store": False,
        "service_tier": "auto",
        "modalities": ["text"],
        "metadata": {},
    }
    assert body(CHAT | nothing) == body(CHAT)


def test_images_go_to_the_servers_route() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    fields = LAW | {"model": "m", "n": 4, "messages": [{"role": "user", "content": parts}]}
    found = plan(fields)
    assert found.method is None
    assert "image_url" in (found.reason or "")
    with pytest.raises(ApiError, match="image_url"):
        plan(fields | {"model": "m:best_first"})
    assert plan(fields | {"messages": [{"role": "user", "content": parts[:1]}]}).method is not None


@pytest.mark.parametrize("name", REFUSED)
def test_known_fields_that_are_not_offered_are_refused(name: str) -> None:
    with pytest.raises(ApiError, match=f"{name} is not offered"):
        body(CHAT | {name: True})
    assert body(CHAT | {name: None})
