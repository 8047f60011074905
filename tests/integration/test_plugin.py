"""The gate inside the real runtime: true reports under load, and nothing that a stranger can do."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import aiohttp
import numpy as np
import pytest

from eager_sgl.plugin.blocks import Reports, unpack
from eager_sgl.plugin.vocabulary import COLUMNS, KEY, Column, Gate
from tests.conftest import API_KEY
from tests.faults.gate_load import Load, ask, send_all

pytestmark = pytest.mark.integration

PROMPT = list(range(5, 25))
NUM_REQUESTS = 150
VOCABULARY = 36


def generate(url: str, params: dict[str, Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    """The status and the answer of `/generate`."""
    body = {"input_ids": PROMPT, "sampling_params": {"ignore_eos": True, **params}, **fields}
    request = urllib.request.Request(
        f"{url}/generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {API_KEY}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def observed(
    url: str, gate: Gate, num_tokens: int = 30, **params: Any
) -> tuple[list[int], Reports]:
    """The tokens of a request with a gate, and its reports."""
    asked = {"max_new_tokens": num_tokens, "custom_params": gate.custom_params(), **params}
    status, answer = generate(url, asked)
    assert status == 200, answer
    return answer["output_ids"], unpack(answer["meta_info"].get(KEY) or (), gate.top_k)


def test_reports_equal_the_server_s_logprobs_whatever_else_runs(server_url: str) -> None:
    tally = asyncio.run(send_all(Load(server_url, API_KEY, PROMPT), NUM_REQUESTS, seed=1))
    assert tally.faults == []
    assert tally.observed > NUM_REQUESTS / 3
    assert tally.plain > 10
    assert tally.aborted > 5


def test_answers_to_requests_without_a_gate_have_no_field_of_it(server_url: str) -> None:
    """SGLang pads the field for all requests of a message, which a stream of all steps fills."""

    async def answers() -> list[dict[str, Any] | None]:
        load = Load(server_url, API_KEY, PROMPT)
        params = {"max_new_tokens": 60, "ignore_eos": True}
        plain = {"input_ids": PROMPT, "sampling_params": params, "stream": True}
        asked = Gate(top_k=2, threshold=0.0).custom_params()
        gated = plain | {"sampling_params": params | {"custom_params": asked}}
        async with aiohttp.ClientSession(read_bufsize=2**24) as session:
            return await asyncio.gather(
                *(ask(session, load, body) for body in (gated, plain, gated, plain))
            )

    found = [answer and KEY in answer["meta_info"] for answer in asyncio.run(answers())]
    assert found == [True, False, True, False]


ATTACKS: list[Any] = [
    {"top_k": 10**9},
    {"top_k": "20"},
    {"threshold": float("nan")},
    {"threshold": float("inf")},
    {"threshold": -1},
    {"threshold": {"nats": 1}},
    {"stored_below": [1]},
    {"max_reports": 10**30},
    {"window": 10**12},
    {"floor": -1},
    {"seed": 2**64},
    {"logprobs": "all"},
    {"x" * 1000: 1},
    [1, 2],
    "0.5",
    None,
]


@pytest.mark.parametrize("asked", ATTACKS, ids=lambda asked: repr(asked)[:30])
def test_what_the_gate_does_not_have_is_refused_and_the_server_lives(
    server_url: str, asked: Any
) -> None:
    params = {"max_new_tokens": 3, "custom_params": {KEY: asked}}
    status, answer = generate(server_url, params)
    if "NaN" in json.dumps(asked) or "Infinity" in json.dumps(asked):
        assert status in (400, 422), answer  # no JSON: refused before it is read
    else:
        assert status == 400, answer
        assert "gate's" in str(answer) or "custom_params" in str(answer)
    assert generate(server_url, {"max_new_tokens": 3})[0] == 200


def test_all_that_may_be_asked_at_once_is_reported(server_url: str) -> None:
    gate = Gate(top_k=VOCABULARY, threshold=0.0, stored_below=2.0, columns=COLUMNS, seed=1)
    tokens, reports = observed(server_url, gate, 200)
    assert reports.indices.tolist() == list(range(200))
    assert {len(reports.columns[name]) for name in COLUMNS} == {len(tokens)} == {200}
    assert np.isfinite(reports.columns["confidences"]).all()


def test_a_seed_draws_the_same_tokens_also_in_a_request_that_continues(server_url: str) -> None:
    def drawn(seed: int, num_tokens: int, **fields: Any) -> list[int]:
        params = {
            "max_new_tokens": num_tokens,
            "temperature": 50.0,
            "top_p": 0.9,
            "custom_params": Gate(seed=seed).custom_params(),
        }
        status, answer = generate(server_url, params, **fields)
        assert status == 200, answer
        tokens: list[int] = answer["output_ids"]
        return tokens

    whole = drawn(7, 20)
    assert drawn(7, 20) == whole
    assert drawn(8, 20) != whole
    assert drawn(7, 12, input_ids=[*PROMPT, *whole[:8]]) == whole[8:]


def test_a_request_ends_below_the_floor_of_its_running_confidence(server_url: str) -> None:
    columns: tuple[Column, ...] = ("confidences",)
    _, reports = observed(server_url, Gate(top_k=5, columns=columns), 100, temperature=0)
    means = np.convolve(reports.columns["confidences"], np.ones(8) / 8, "valid")
    floor = float(np.quantile(means[:60], 0.3))
    first = int(np.flatnonzero(means < floor)[0]) + 7
    gate = Gate(top_k=5, columns=columns, window=8, floor=floor)
    tokens, cut = observed(server_url, gate, 100, temperature=0)
    assert cut.cut is not None
    assert cut.cut[0] == first
    assert first < len(tokens) <= first + 3
    assert cut.cut[1] == pytest.approx(means[first - 7], abs=1e-4)


def test_no_part_of_a_stream_has_tokens_after_a_cut_that_it_does_not_report(
    server_url: str,
) -> None:
    """A stream that breaks before its end would otherwise be continued after the cut."""
    columns: tuple[Column, ...] = ("confidences",)
    _, reports = observed(server_url, Gate(top_k=5, columns=columns), 100, temperature=0)
    means = np.convolve(reports.columns["confidences"], np.ones(8) / 8, "valid")
    floor = float(np.quantile(means[:60], 0.3))
    first = int(np.flatnonzero(means < floor)[0]) + 7
    is_sent_before_the_end = False
    for _ in range(5):  # SGLang skips parts when it is late
        parts = asyncio.run(_parts(server_url, Gate(top_k=5, window=8, floor=floor)))
        cuts = [unpack(part["meta_info"].get(KEY) or (), 5).cut for part in parts]
        assert [cut is not None for cut in cuts] == [len(p["output_ids"]) > first for p in parts]
        assert {cut[0] for cut in cuts if cut is not None} == {first}
        is_sent_before_the_end |= any(
            cut and not p["meta_info"]["finish_reason"] for cut, p in zip(cuts, parts, strict=True)
        )
        if is_sent_before_the_end:
            break
    assert is_sent_before_the_end


async def _parts(url: str, gate: Gate) -> list[dict[str, Any]]:
    """The parts of a greedy stream, of a token more each."""
    params: dict[str, Any] = {"max_new_tokens": 100, "temperature": 0, "ignore_eos": True}
    params |= {"stream_interval": 1, "custom_params": gate.custom_params()}
    body = {"input_ids": PROMPT, "sampling_params": params, "stream": True}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with (
        aiohttp.ClientSession(read_bufsize=2**24) as session,
        session.post(f"{url}/generate", json=body, headers=headers) as reply,
    ):
        lines = [line async for line in reply.content if line.startswith(b"data: {")]
    return [json.loads(line[6:]) for line in lines]


def test_a_grammar_s_impossible_tokens_are_reported_as_such(server_url: str) -> None:
    gate = Gate(top_k=20, stored_below=2.0, columns=("confidences", "raw_logprobs"))
    tokens, reports = observed(server_url, gate, 8, regex="[0-9]{4}", ignore_eos=False)
    assert reports.indices.tolist() == list(range(len(tokens)))
    assert np.isneginf(reports.logprobs).any()
    assert not np.isnan(reports.logprobs).any()
    assert not np.isnan(reports.columns["confidences"]).any()


@pytest.mark.parametrize("num_parents", [1, 3])
def test_a_branch_of_a_running_request_prefills_one_token(
    server_url: str, num_parents: int
) -> None:
    """SGLang would compute again what the parent has decoded, which has not ended."""

    async def branches(seed: int) -> list[tuple[int, int]]:
        """The cached tokens and the length of each branch of a parent that runs."""
        prompt = [*PROMPT, *(5 + (seed * 7 + step) % 20 for step in range(6))]
        load = Load(server_url, API_KEY, prompt)
        parent = f"eager-parent-{seed}-{num_parents}"
        body = {
            "rid": parent,
            "input_ids": prompt,
            "stream": True,
            "sampling_params": {"max_new_tokens": 600, "temperature": 0, "ignore_eos": True},
        }
        found, marks = [], [50, 100, 150, 200]
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with (
            aiohttp.ClientSession(read_bufsize=2**24) as session,
            session.post(f"{load.url}/generate", json=body, headers=headers) as reply,
        ):
            async for line in reply.content:
                if not line.startswith(b"data: {"):
                    continue
                tokens = json.loads(line[6:])["output_ids"]
                if marks and len(tokens) >= marks[0]:  # SGLang skips parts when it is late
                    del marks[0]
                    params = {
                        "max_new_tokens": 2,
                        "custom_params": Gate(parent=parent).custom_params(),
                    }
                    ids = [*prompt, *tokens[:-1], 5]
                    answer = await ask(session, load, {"input_ids": ids, "sampling_params": params})
                    assert answer is not None
                    assert "meta_info" in answer, answer
                    found.append((answer["meta_info"]["cached_tokens"], len(ids)))
        return found

    async def all_of_them() -> list[list[tuple[int, int]]]:
        return await asyncio.gather(*map(branches, range(num_parents)))

    for found in asyncio.run(all_of_them()):
        assert len(found) >= 3
        assert [cached for cached, _ in found] == [length - 1 for _, length in found]
