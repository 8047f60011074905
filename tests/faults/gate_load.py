"""Requests of all kinds at once, whose gate reports are held against SGLang's own logprobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

from eager_sgl.plugin.blocks import Reports, unpack
from eager_sgl.plugin.vocabulary import COLUMNS, KEY, Gate

__all__ = ["Load", "Tally", "ask", "send_all"]

TOLERANCE = 2e-4
"""Of logprobs in nats: SGLang's pass the base-64 form or JSON as float32."""
ABORTED_SHARE = 0.2


@dataclass
class Tally:
    """What became of the requests.

    Attributes:
        observed: that had a gate, and whose reports were all true.
        plain: that had none, and no reports.
        aborted: whose connections were closed before their ends.
        retracted: retractions of the requests that were checked.
        faults: what was wrong, a line each.
    """

    observed: int = 0
    plain: int = 0
    aborted: int = 0
    retracted: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """Random requests.

    Attributes:
        url: of the server.
        api_key: that it requires.
        prompt: token ids.
        num_tokens: of the longest request.
    """

    url: str
    api_key: str
    prompt: Sequence[int]
    num_tokens: int = 120

    def request(self, rng: random.Random) -> tuple[dict[str, Any], Gate | None]:
        """A body of `/generate`, and the gate that it asks for."""
        temperature = rng.choice([0.0, 0.6, 1.0, 1.3])
        params: dict[str, Any] = {
            "max_new_tokens": rng.randint(1, self.num_tokens),
            "temperature": temperature,
            "top_p": rng.choice([0.9, 1.0]),
            "ignore_eos": True,
        }
        gate = None
        if rng.random() < 0.7:
            gate = Gate(
                top_k=rng.choice([2, 5, 20]),
                threshold=rng.choice([None, 0.0, 1.0]),
                stored_below=rng.choice([None, 0.9, 2.0]),
                columns=tuple(name for name in COLUMNS if rng.random() < 0.6),
                seed=rng.choice([None, rng.getrandbits(63)]),
            )
            params["custom_params"] = gate.custom_params()
        body = {
            "input_ids": list(self.prompt),
            "sampling_params": params,
            "return_logprob": True,
            "top_logprobs_num": gate.top_k if gate else 2,
            "stream": rng.random() < 0.6,
        }
        return body, gate


async def ask(
    session: aiohttp.ClientSession, load: Load, body: dict[str, Any], num_events: int | None = None
) -> dict[str, Any] | None:
    """The last answer to a request; None if the connection was closed after some of its events."""
    headers = {"Authorization": f"Bearer {load.api_key}"}
    async with session.post(f"{load.url}/generate", json=body, headers=headers) as reply:
        if not body.get("stream"):
            if num_events is not None:
                return None
            return {"status": reply.status, **await reply.json()}
        last: dict[str, Any] | None = None
        number = 0
        async for line in reply.content:
            if line.startswith(b"data: {"):
                last, number = json.loads(line[6:]), number + 1
            if num_events is not None and number >= num_events:
                return None
        return last


async def send_all(load: Load, number: int, seed: int) -> Tally:
    """Send random requests at once, and check all that are answered."""
    tally, rng = Tally(), random.Random(seed)
    limit = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=900)
    async with aiohttp.ClientSession(
        connector=limit, timeout=timeout, read_bufsize=2**24
    ) as session:

        async def one(body: dict[str, Any], gate: Gate | None, num_events: int | None) -> None:
            with contextlib.suppress(aiohttp.ClientPayloadError):
                answer = await ask(session, load, body, num_events)
                if answer is None:
                    tally.aborted += 1
                    return
                check(answer, gate, tally)

        work = []
        for _ in range(number):
            body, gate = load.request(rng)
            num_events = rng.randint(1, 5) if rng.random() < ABORTED_SHARE else None
            work.append(one(body, gate, num_events))
        await asyncio.gather(*work)
    return tally


def check(answer: dict[str, Any], gate: Gate | None, tally: Tally) -> None:
    """Hold an answer's reports against its logprobs."""
    if "meta_info" not in answer:
        tally.faults.append(f"no answer: {answer!r:.200}")
        return
    meta = answer["meta_info"]
    tally.retracted += meta.get("num_retractions") or 0
    if gate is None:
        tally.plain += 1
        if any(meta.get(KEY) or ()):
            tally.faults.append("a request without a gate has reports")
        return
    reports = unpack(meta.get(KEY) or (), gate.top_k)
    wrong = list(_differences(reports, meta, gate))
    tally.faults += wrong
    tally.observed += not wrong


def _differences(reports: Reports, meta: dict[str, Any], gate: Gate) -> Iterator[str]:
    drawn = np.array([row[0] for row in meta["output_token_logprobs"]])
    if reports.fault is not None:
        yield f"the gate failed: {reports.fault}"
        return
    for name in gate.columns:
        if len(reports.columns.get(name, ())) != len(drawn):
            yield f"{len(reports.columns.get(name, ()))} {name} of {len(drawn)} tokens"
            return
    if "logprobs" in gate.columns:
        worst = np.abs(reports.columns["logprobs"] - drawn).max(initial=0)
        if worst > TOLERANCE:
            yield f"logprobs differ by {worst:.2g} nats"
    yield from _step_differences(reports, meta["output_top_logprobs"], gate)


def _step_differences(reports: Reports, rows: list[Any], gate: Gate) -> Iterator[str]:
    steps = reports.indices
    is_all = gate.threshold == 0 or gate.stored_below == 2
    if is_all and steps.tolist() != list(range(len(rows))):
        yield f"{len(steps)} steps of {len(rows)} are reported"
    if not len(steps):
        return
    if steps[-1] >= len(rows):
        yield f"step {steps[-1]} of {len(rows)} tokens is reported"
        return
    top = np.array([[entry[0] for entry in rows[step]] for step in steps])
    ids = np.array([[entry[1] for entry in rows[step]] for step in steps])
    # Of probabilities: the logarithms of tiny ones differ by rounding.
    gap = np.abs(np.exp(top) - np.exp(reports.logprobs)).max()
    if gap > TOLERANCE:
        yield f"probabilities differ by {gap:.2g}"
    is_clear = np.abs(np.diff(top, axis=1)).min(axis=1) > 1e-3
    if (ids != reports.token_ids)[is_clear].any():
        yield "other tokens are the most likely ones"
