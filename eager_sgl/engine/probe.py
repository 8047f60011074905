"""Facts about a server and its model, probed with real requests when a client connects."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import Literal

from eager_sgl.core import Generation
from eager_sgl.engine.gate.choice import GateChoice, GateForm
from eager_sgl.engine.gate.pickled import can_serve
from eager_sgl.engine.gate.probe import GateFinding, find_gate
from eager_sgl.engine.limits import CONNECTING, FIRST_CONTACT, PATIENT, Patience
from eager_sgl.engine.loop import together
from eager_sgl.engine.protocol import (
    Json,
    generate_payload,
    new_request_id,
    parse_generation,
    tokens_of,
)
from eager_sgl.engine.seeds import gate_seed, honours_seed
from eager_sgl.engine.shapes import ShapeError, as_object, field, list_of
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import (
    MalformedAnswerError,
    RequestRejectedError,
    ServerError,
    ServerUnsuitableError,
)
from eager_sgl.plugin.vocabulary import Gate

__all__ = ["ServerProfile", "is_stop_token", "probe", "served_model"]

_NUM_TOKENS, _NUM_PATHS = 16, 3
_FORCING_BIAS = 1e4
_RESERVED = 6
_NO_TOKEN = 2**31 - 1
_NOTE_SECONDS = 10.0
"""Between two lines of the log about a server that has not answered."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerProfile:
    """The facts that branching depends on.

    Attributes:
        model_path: the model as the server names it.
        version: of the server's sglang.
        context_length: maximum tokens of a prompt and its sequence together; SGLang reserves a few
            of the model's positions and refuses longer inputs.
        page_size: tokens in a page of the radix cache; only whole pages are shared.
        logprobs: "tempered" if returned logprobs belong to the distribution at the request's
            temperature (SGLang's default), "raw" if to that at temperature 1
            (SGLANG_RETURN_ORIGINAL_LOGPROB=1).
        vocabulary_size: number of logits, one above the highest token id; the tokenizer may know
            fewer tokens.
        no_gate: why the server has no entropy gate, in a clause; None if it has one.
        honours_seed: whether a request with a `sampling_seed` draws the same tokens again.
        gate: how the server's gate is reached: the "plugin" beside it, or a "pickle" with every
            request; None if it has none.
        gate_honours_seed: whether a request with a seed for the plugin draws the same tokens again.
    """

    model_path: str
    version: str
    context_length: int
    page_size: int
    logprobs: Literal["tempered", "raw"]
    vocabulary_size: int
    no_gate: str | None = None
    honours_seed: bool = False
    gate: GateForm | None = None
    gate_honours_seed: bool = False

    def why_not(self, gate: Gate) -> str | None:
        """Why the server cannot report what a gate asks for, in a clause; None if it can."""
        if self.gate is None:
            return self.no_gate or "it was not probed for one"
        if self.gate == "pickle" and not can_serve(gate):
            return (
                "its gate is a pickle, which serves EAGer-init alone; searches and an adaptive θ "
                "need the plugin"
            )
        return None

    def room_for(self, num_prompt_tokens: int) -> int:
        """The tokens that the context leaves after a prompt, at least 1.

        Raises:
            RequestRejectedError: the context leaves none.
        """
        room = self.context_length - num_prompt_tokens
        if room < 1:
            raise RequestRejectedError(
                f"the prompt has {num_prompt_tokens} tokens, which leaves no room in the model's "
                f"context of {self.context_length}; shorten it"
            )
        return room


async def probe(transport: Transport, gate: GateChoice = "auto") -> ServerProfile:
    """Request a server's facts, and check its behaviour.

    Args:
        transport: to the server.
        gate: the entropy gates that may be used.

    Raises:
        ServerUnsuitableError: its model generates nothing, or its radix cache does not serve
            `input_ids` prefixes.
        ServerError: the server does not answer, or not as SGLang does.
    """
    try:
        return await _probe(transport, gate)
    except (MalformedAnswerError, RequestRejectedError) as error:
        raise ServerUnsuitableError(
            f"{transport.url} answers, but not as an SGLang server does ({error})"
        ) from error


class _Wait:
    """Logs from time to time that a server's queue is waited for.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self._url, self._seconds = url, 0.0
        self._begin()

    def close(self) -> None:
        """Log no more."""
        self._timer.cancel()

    def _begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_NOTE_SECONDS, self._note)

    def _note(self) -> None:
        self._seconds += _NOTE_SECONDS
        _LOG.warning(
            "waiting %.0f s for %s to generate a few tokens, after requests that it has already",
            self._seconds,
            self._url,
        )
        self._begin()


async def _probe(transport: Transport, gate: GateChoice) -> ServerProfile:
    model_path = await served_model(transport, FIRST_CONTACT)
    server_info = await transport.get("/server_info", _server_info_of)
    max_model_length = await transport.get("/v1/models", _model_length_of)
    page_size = server_info.get("page_size") or 1
    with contextlib.closing(_Wait(transport.url)):
        path = await _require_prefix_cache(transport, page_size)
        async with together() as group:  # on a busy server every request waits for its turn
            finding = group.create_task(_gate(transport, server_info, path, gate))
            are_tempered = group.create_task(_are_logprobs_tempered(transport, path))
            vocabulary_size = group.create_task(_vocabulary_size(transport))
            has_seeds = group.create_task(honours_seed(transport, path))
    found, has_gate_seeds = finding.result()
    return ServerProfile(
        model_path=model_path,
        version=server_info["version"],
        context_length=server_info.get("max_req_input_len") or max_model_length - _RESERVED,
        page_size=page_size,
        logprobs="tempered" if are_tempered.result() else "raw",
        vocabulary_size=vocabulary_size.result(),
        no_gate=found.reason,
        honours_seed=has_seeds.result(),
        gate=found.form,
        gate_honours_seed=has_gate_seeds,
    )


async def _gate(
    transport: Transport, server_info: Json, path: list[int], choice: GateChoice
) -> tuple[GateFinding, bool]:
    """The gate, and whether it honours seeds."""
    found = await find_gate(transport, server_info, path, choice)
    has_plugin = found.form == "plugin"
    return found, has_plugin and await honours_seed(transport, path, gate_seed)


async def served_model(transport: Transport, patience: Patience) -> str:
    """The path of the model, as the server names it.

    Args:
        transport: to the server.
        patience: how often the request is tried.

    Raises:
        ServerUnsuitableError: the model generates nothing.
        ServerError: the server does not answer, or not as SGLang does.
    """
    model_info = await transport.get("/model_info", _model_info_of, patience)
    path: str = model_info["model_path"]
    if model_info.get("is_generation") is False:
        raise ServerUnsuitableError(
            f"{transport.url} serves {path}, which generates nothing, as a reward or embedding "
            "model; give the URL of a server whose model generates text"
        )
    return path


def _model_info_of(answer: object) -> Json:
    field(answer, "model_path", str)
    return as_object(answer)  # type: ignore[no-any-return]


def _model_length_of(answer: object) -> int:
    models = list_of(dict, answer, "data")
    if not models:
        raise ShapeError("it lists no model")
    return field(models[0], "max_model_len", int)


def _server_info_of(answer: object) -> Json:
    field(answer, "version", str)
    for name in ("page_size", "max_req_input_len"):
        if as_object(answer).get(name) is not None:
            field(answer, name, int)
    return as_object(answer)  # type: ignore[no-any-return]


async def _vocabulary_size(transport: Transport) -> int:
    """The size in the text of a refusal: no route gives it, and a tokenizer may know fewer tokens.

    A bias for a token that no model has is refused with the allowed range of token ids. The request
    also has two grammars at once, which is refused too, so that it does not reach the model even if
    the bias would.
    """
    try:
        await _generate(
            transport,
            [0],
            max_new_tokens=1,
            logit_bias={str(_NO_TOKEN): 0.0},
            regex="1",
            ebnf='root ::= "1"',
        )
    except RequestRejectedError as error:
        if allowed := re.search(r"\[0, (\d+)\]", str(error)):
            return int(allowed[1]) + 1
        raise ServerUnsuitableError(
            f"{transport.url} does not report the size of its model's vocabulary ({error})"
        ) from error
    raise ServerUnsuitableError(f"{transport.url} accepted a token that no model has")


async def is_stop_token(transport: Transport, token_id: int) -> bool:
    """Whether the server ends a sequence at this token, which a bias forces it to generate.

    No route gives a model's EOS tokens, and a model may have several.
    """
    answer = await _generate(
        transport,
        [token_id],
        patience=PATIENT,
        max_new_tokens=1,
        temperature=0,
        logit_bias={str(token_id): _FORCING_BIAS},
    )
    if answer.token_ids != (token_id,):
        raise ServerError(
            f"the server generated {list(answer.token_ids)} where {token_id} was forced"
        )
    return answer.finish_reason == "stop"


async def _generate(
    transport: Transport,
    ids: list[int],
    *,
    num_top: int = 0,
    patience: Patience = CONNECTING,
    **sampling_params: object,
) -> Generation:
    return await transport.post(
        "/generate",
        lambda: generate_payload(
            ids, sampling_params, request_id=new_request_id(), top_logprobs=num_top
        ),
        partial(parse_generation, logprob_temperature=1.0, top_k=num_top),
        patience=patience,
    )


async def _draw_path(
    transport: Transport, prompt: tuple[int, ...], num_tokens: int, seed: int
) -> list[int]:
    """Tokens that the model generated, which are valid for any vocabulary."""
    answer = await _generate(
        transport,
        list(prompt),
        ignore_eos=True,
        max_new_tokens=num_tokens,
        temperature=1,
        sampling_seed=seed,
    )
    return [*prompt, *answer.token_ids]


async def _require_prefix_cache(transport: Transport, page_size: int) -> list[int]:
    """A generated path that the cache served when it was sent again.

    Two of three paths must be served: under load one may be evicted, and with replicas that take
    turns one may by chance reach the replica that generated it. So these requests follow each
    other.
    """
    prompt = await transport.post("/tokenize", lambda: {"prompt": "1"}, tokens_of)
    num_served = cached = expected = 0
    for seed in range(_NUM_PATHS):
        path = await _draw_path(transport, prompt, max(_NUM_TOKENS, 2 * page_size), seed)
        expected = (len(path) - 1) // page_size * page_size
        cached = (await _generate(transport, path, max_new_tokens=1)).cached_tokens
        num_served += cached >= expected
        if 2 * num_served > _NUM_PATHS:
            return path
    raise ServerUnsuitableError(
        f"{transport.url} served {cached} of {expected} tokens from its radix cache, so every "
        "branch would be generated anew; start it without --disable-radix-cache (behind a router, "
        "all requests of a prompt must reach the same replica)"
    )


async def _are_logprobs_tempered(transport: Transport, path: list[int]) -> bool:
    """Whether halving the temperature doubles the gap between two logprobs."""
    for end in range(len(path), 0, -1):
        async with together() as group:
            warm = group.create_task(_top_gap(transport, path[:end], temperature=1.0))
            cold = group.create_task(_top_gap(transport, path[:end], temperature=0.5))
        if warm.result() > 0.1:
            return cold.result() > 1.5 * warm.result()
    raise ServerError(f"{transport.url} returned equal logprobs for different tokens")


async def _top_gap(transport: Transport, ids: list[int], *, temperature: float) -> float:
    answer = await _generate(transport, ids, num_top=2, max_new_tokens=1, temperature=temperature)
    assert answer.top is not None, "alternatives were requested"
    first, second = answer.top.logprobs[0, :2]
    return float(first - second)
