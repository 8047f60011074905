"""A model given by its conditional distribution, served in place of a `Transport`."""

from __future__ import annotations

import asyncio
import base64
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np

from eager_sgl.engine.gate.pickled import INFO_KEY
from eager_sgl.engine.limits import PATIENT, Patience
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.shapes import ShapeError
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import MalformedAnswerError, RequestRejectedError
from eager_sgl.plugin.vocabulary import BELOW_FLOOR, KEY, Gate
from eager_sgl.signals import Floats
from tests.fakes.gates import PickledRecorder, PluginRecorder, indices_of, reported_steps

VOCABULARY = 5
EOS, CLOSE = 0, 1
NUM_IDS = 1000
"""Number of ids that a request may hold; prompts have ids that are never drawn."""

Distribution = Callable[[tuple[int, ...]], tuple[float, ...]]
"""Path of generated tokens -> probability of each token of the vocabulary, at temperature 1."""


@lru_cache(256)
def mixed_distribution(model: int) -> Distribution:
    """Peaked and flat steps in an order that depends on the path; one model per number."""

    @cache
    def distribution(path: tuple[int, ...]) -> tuple[float, ...]:
        generator = random.Random(hash((model, *path)))
        sharpness = generator.choice([0.3, 0.5, 6.0, 6.0])
        logits = np.array([generator.gauss(0, sharpness) for _ in range(VOCABULARY)])
        weights = np.exp(logits - logits.max())
        return tuple(weights / weights.sum())

    return distribution


@cache
def tempered(
    probabilities: tuple[float, ...], temperature: float, top_p: float, top_k: int | None = None
) -> Floats:
    """The distribution that is sampled from; temperature 0 is greedy."""
    if temperature == 0:
        return np.asarray(np.eye(len(probabilities))[int(np.argmax(probabilities))])
    weights = np.array(probabilities) ** (1 / temperature)
    if not weights.any():  # they are too small for numbers
        return tempered(probabilities, 0, top_p, top_k)
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    if top_p < 1:
        weights[order[before >= top_p]] = 0
    if top_k is not None:
        weights[order[top_k:]] = 0
    return np.asarray(weights / weights.sum())


def is_of_prompt(path: str, body: Json) -> bool:
    """Whether a request generates tokens of a prompt; those of probes have no stop tokens."""
    return path == "/generate" and "stop_token_ids" in body["sampling_params"]


def without(probabilities: tuple[float, ...], tokens: set[int]) -> tuple[float, ...]:
    """The distribution without some tokens, as of logits that a bias makes very small."""
    kept = [1e-30 if t in tokens else p for t, p in enumerate(probabilities)]
    return tuple(p / sum(kept) for p in kept)


class ScriptedServer(Transport):
    """Answers as SGLang 0.5.23 does, from a scripted distribution.

    A draw depends on the seed, the tokens sent and how often they were sent, not on the order in
    which threads ask, and not on probes, which have draws of their own. Under `honours_seed`, as
    under --enable-deterministic-inference, it depends on the request's `sampling_seed` and the
    position instead; so it does on the seed of a gate.

    Args:
        allows_gate: whether the gate's plugin is installed.
        allows_pickle: whether it runs the processors that requests carry.
    """

    url = "http://scripted"
    api_key = None
    has_router = False

    def __init__(
        self,
        distribution: Distribution,
        *,
        prompt: tuple[int, ...] = (9,),
        radix_cache: bool = True,
        allows_gate: bool = False,
        allows_pickle: bool = False,
        honours_seed: bool = False,
    ) -> None:
        self.distribution = distribution
        self.prompt = prompt
        self.seed = 0
        self.logprobs_are_raw = False
        self.context_length = 10_000
        self.allows_truncation = False
        self.requests: list[Json] = []
        self.notified: list[tuple[str, Json]] = []
        self.allows_gate = allows_gate
        self.allows_pickle = allows_pickle
        self.honours_seed = honours_seed
        self._radix_cache = radix_cache
        self._cached: set[tuple[int, ...]] = set()
        self._asked: Counter[tuple[bool, tuple[int, ...]]] = Counter()
        self._lock = threading.Lock()
        self._order, self._order_of_probes = random.Random(0), random.Random(0)

    async def _turn(self, path: str, body: Json) -> None:
        """Let others go first, a random number of times, as a busy server does."""
        order = self._order if is_of_prompt(path, body) else self._order_of_probes
        for _ in range(order.randrange(5)):
            await asyncio.sleep(0)

    async def abort(self, request_id: str) -> None:
        await self.notify("/abort_request", {"rid": request_id})

    async def notify(self, path: str, body: Json) -> bool:
        self.notified.append((path, body))
        return True

    def restart(self, seed: int) -> None:
        """Empty the cache and start another series of draws."""
        self.seed = seed
        self._cached.clear()
        self._asked.clear()
        self.requests.clear()

    async def aclose(self) -> None:
        pass

    async def disconnect(self) -> None:
        pass

    async def is_answering(self) -> bool:
        return True

    async def get(
        self,
        path: str,
        decode: Callable[[Json], Any] = lambda answer: answer,
        patience: Patience = PATIENT,
    ) -> Any:
        return self._decoded(self.answer(path), decode)

    def _decoded(self, answer: Json, decode: Callable[[Json], Any]) -> Any:
        try:
            return decode(answer)
        except ShapeError as error:
            raise MalformedAnswerError(str(error)) from error

    def _about_itself(self, path: str) -> Json:
        answers: dict[str, Json] = {
            "/model_info": {"model_path": "scripted"},
            "/server_info": {
                "version": "0.5.23",
                "page_size": 1,
                "enable_custom_logit_processor": self.allows_pickle,
                "speculative_algorithm": None,
                "allow_auto_truncate": self.allows_truncation,
            },
            "/v1/models": {"data": [{"max_model_len": self.context_length}]},
        }
        return answers[path]

    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Json], Any] = lambda answer: answer,
        progress: Callable[[Any], None] | None = None,
        patience: Patience = PATIENT,
        *,
        may_be_partial: bool = False,
    ) -> Any:
        body = build()
        await self._turn(path, body)
        answer = self.answer(path, body)
        for part in self.parts(answer, body) if progress is not None else ():
            await self._turn(path, body)
            if may_be_partial and self._is_aborted(body):
                reason = {"finish_reason": {"type": "abort", "message": "Abort"}}
                answer = part | {"meta_info": part["meta_info"] | reason}
                break
            assert progress is not None
            progress(decode(part))
        await self._turn(path, body)
        return self._decoded(answer, decode)

    def _is_aborted(self, body: Json) -> bool:
        return {"rid": body["rid"]} in [notice for _, notice in self.notified]

    def answer(self, path: str, body: Json | None = None) -> Json:
        """The JSON value of an answer; tests replace it."""
        if body is None:
            return self._about_itself(path)
        if path == "/tokenize":
            text = body.get("prompt", "messages")
            if text.startswith("\x00"):
                return {"tokens": []}
            return {"tokens": [CLOSE] if text == "</think>" else list(self.prompt)}
        if path == "/detokenize":
            if not body["tokens"]:
                return {"text": ""}
            vocabulary = VOCABULARY if body["skip_special_tokens"] else math.inf
            return {"text": [" ".join(str(t) for t in i if t < vocabulary) for i in body["tokens"]]}
        assert path == "/generate", path
        return self._generate(body)

    def _generate(self, body: Json) -> Json:
        ids, params = tuple(body["input_ids"]), body["sampling_params"]
        if any(int(token) >= NUM_IDS for token in params.get("logit_bias", ())):
            raise RequestRejectedError(f"logit_bias must has keys in [0, {NUM_IDS - 1}]")
        generator = self._generator(ids, params)
        temperature, top_p = params.get("temperature", 1.0), params.get("top_p", 1.0)
        path, rows = ids[len(self.prompt) :], []
        reason: Json = {"type": "length"}
        reports = self._recorder(body)
        if len(ids) >= self.context_length - 6:
            raise RequestRejectedError(f"input length {len(ids)}")
        for step in range(min(params["max_new_tokens"], self.context_length - len(ids) - 2)):
            probabilities = self.distribution(path)
            bias = params.get("logit_bias") or {}
            forced = [int(token) for token, value in bias.items() if value > 0]
            if not forced and bias:
                probabilities = without(probabilities, {int(token) for token in bias})
            weights = tempered(probabilities, temperature, top_p, params.get("top_k"))
            drawn = generator(step).choices(range(VOCABULARY), weights.tolist())
            token = (forced or drawn)[0]
            raw = self.logprobs_are_raw or temperature == 0
            rows.append(np.log(tempered(probabilities, 1.0 if raw else temperature, 1.0)))
            whole = tempered(probabilities, temperature or 1.0, 1.0)
            reports.observe(step, token, np.array(probabilities), whole)
            path = (*path, token)
            if not params.get("ignore_eos") and token in {
                EOS,
                *(params.get("stop_token_ids") or ()),
            }:
                reason = {"type": "stop", "matched": token}
                break
            if reports.is_ending:
                reason = {"type": "stop", "matched": BELOW_FLOOR}
                break
        output = path[len(ids) - len(self.prompt) :]
        cached = self._serve_from_cache(ids, output)
        with self._lock:
            self.requests.append(body | {"output_ids": list(output), "cached_tokens": cached})
        meta = {"finish_reason": reason, "prompt_tokens": len(ids), "cached_tokens": cached}
        meta |= reports.meta()
        if candidates := body.get("token_ids_logprob"):
            meta |= _asked_fields(candidates, rows)
        elif body.get("return_logprob"):
            meta |= _logprob_fields(body, rows, output)
        return {"output_ids": list(output), "text": "", "meta_info": meta}

    def _recorder(self, body: Json) -> PluginRecorder | PickledRecorder:
        """What this server records of the steps of a request."""
        params = body["sampling_params"].get("custom_params")
        gate = Gate.parse(params) if self.allows_gate else None
        if gate is None and self.allows_pickle and "custom_logit_processor" in body:
            return PickledRecorder(params)
        return PluginRecorder(gate)

    def _generator(self, ids: tuple[int, ...], params: Json) -> Callable[[int], random.Random]:
        """The random generator of each step of a request."""
        gate = Gate.parse(params.get("custom_params")) if self.allows_gate else None
        seed = params.get("sampling_seed", 42) if self.honours_seed else None
        if gate is not None and gate.seed is not None:
            seed = gate.seed
        if seed is not None:
            return lambda step: random.Random(hash((seed, len(ids) + step)))
        number = self._num_asked(ids, is_probe="stop_token_ids" not in params)
        generator = random.Random(hash((self.seed, number, *ids)))
        return lambda _: generator

    def _num_asked(self, ids: tuple[int, ...], *, is_probe: bool) -> int:
        with self._lock:
            self._asked[is_probe, ids] += 1
            return self._asked[is_probe, ids]

    def parts(self, answer: Json, body: Json) -> Iterator[Json]:
        """The parts of a stream before its end, sent after reported steps or later."""
        if not body.get("stream"):
            return
        if (steps := reported_steps(answer, body)) is None:
            yield from _parts_of_tokens(answer, body["sampling_params"]["stream_interval"])
            return
        number = len(answer["output_ids"])
        for step, following in zip(steps, [*steps, number][1:], strict=True):
            if self._order.random() < 0.7:
                length = self._order.randint(step + 1, max(following, step + 1))
                if length < number:
                    yield first_tokens(answer, length)

    def _serve_from_cache(self, ids: tuple[int, ...], output: tuple[int, ...]) -> int:
        with self._lock:
            hits = [n for n in range(len(ids)) if ids[:n] in self._cached]
            if self._radix_cache:
                whole = (*ids, *output)[: len(ids) + max(len(output) - 1, 0)]
                self._cached |= {whole[:n] for n in range(1, len(whole) + 1)}
        return max(hits, default=0)


def first_tokens(answer: Json, length: int, reason: Json | None = None) -> Json:
    """The answer when its first tokens have been decoded."""
    meta = answer["meta_info"] | {"finish_reason": reason}
    if "output_top_logprobs_shape" in meta:
        meta |= first_rows(meta, length)
    if INFO_KEY in meta:
        meta[INFO_KEY] = [report for report in meta[INFO_KEY] if report[0] < length]
    if KEY in meta:
        steps = indices_of(meta[KEY])
        meta[KEY] = [b for b, (step, _) in zip(meta[KEY], steps, strict=True) if step < length]
    return {"output_ids": answer["output_ids"][:length], "text": "", "meta_info": meta}


def _parts_of_tokens(answer: Json, interval: int) -> Iterator[Json]:
    """The parts after every `interval` tokens, each with all tokens so far."""
    for length in range(interval, len(answer["output_ids"]), interval):
        yield first_tokens(answer, length)


def first_rows(meta: Json, length: int) -> Json:
    shape = [length, meta["output_top_logprobs_shape"][1]]
    rows: Json = {"output_top_logprobs_shape": shape}
    rows["output_token_logprobs"] = meta["output_token_logprobs"][:length]
    for name in ("val", "idx"):
        key = f"output_top_logprobs_{name}_flat_b64"
        rows[key] = base64.b64encode(base64.b64decode(meta[key])[: 4 * math.prod(shape)]).decode()
    return rows


def _asked_fields(candidates: list[int], rows: list[Floats]) -> Json:
    """Logprobs of given tokens; those outside the vocabulary are never drawn."""
    asked = [
        [[float(row[t]) if t < VOCABULARY else -math.inf, t, None] for t in candidates]
        for row in rows
    ]
    return {"input_token_ids_logprobs": [None], "output_token_ids_logprobs": asked}


def _logprob_fields(body: Json, rows: list[Floats], output: tuple[int, ...]) -> Json:
    k = body.get("top_logprobs_num", 0)
    sampled = [[float(row[t]), t, None] for row, t in zip(rows, output, strict=True)]
    orders = [np.argsort(-row, kind="stable")[:k] for row in rows]
    values = np.array([row[order] for row, order in zip(rows, orders, strict=True)], np.float32)
    if not k:
        return {"output_token_logprobs": sampled}
    if not body.get("return_flat_raw_output_top_logprobs"):
        top = [
            [[float(row[t]), int(t), None] for t in o] for row, o in zip(rows, orders, strict=True)
        ]
        return {"output_token_logprobs": sampled, "output_top_logprobs": top}
    return {
        "output_token_logprobs": sampled,
        "output_top_logprobs_val_flat_b64": base64.b64encode(values.tobytes()).decode(),
        "output_top_logprobs_idx_flat_b64": base64.b64encode(
            np.array(orders, np.int32).tobytes()
        ).decode(),
        "output_top_logprobs_val_flat_b64_dtype": "float32",
        "output_top_logprobs_idx_flat_b64_dtype": "int32",
        "output_top_logprobs_shape": [len(rows), min(k, VOCABULARY)],
    }
