"""Whether two servers serve the same weights.

The paths and names of models say little: two machines spell a folder differently, and weights are
replaced in place. So the servers are compared by what they compute: the logprobs of the same
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.limits import CONNECTING
from eager_sgl.engine.protocol import (
    Json,
    generate_payload,
    new_request_id,
    parse_generation,
    tokens_of,
)
from eager_sgl.engine.shapes import ShapeError, as_object, field, list_of, shown
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import ServerUnsuitableError

__all__ = ["MAX_DIFFERENCE", "Fingerprint", "fingerprint_of", "require_same_weights"]

MAX_DIFFERENCE = 0.1
"""Mean absolute difference, in nats, of the logprobs of the same tokens by the same weights.

Kernels, batch sizes and GPUs that differ round bf16 differently: 0.01 to 0.05 nats on tokens that
the model drew. Another model, or another fine-tuning, differs by several tenths. Neighbouring steps
of a training run may differ by less than rounding does: those are what `weight_version` is for.
"""
_NUM_TOKENS = 64


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the weights of a server.

    Attributes:
        url: of the server.
        vocabulary_size: number of logits.
        weight_version: as the server names it; None if it does not.
        path: T token ids.
        logprobs: float64 [T − 1], natural logarithms of the model's probabilities of the path's
            tokens at temperature 1, without the first.
    """

    url: str
    vocabulary_size: int
    weight_version: str | None
    path: tuple[int, ...]
    logprobs: NDArray[np.float64]


async def fingerprint_of(client: TokenClient, path: tuple[int, ...] = ()) -> Fingerprint:
    """The fingerprint of a server's weights; a request that generates one token.

    Args:
        client: of the server.
        path: two tokens of the model or more; the server generates them if there are none.

    Raises:
        ServerError: the server does not answer, or not as SGLang does.
    """
    transport, size = client.transport, client.profile.vocabulary_size
    path = path or await _draw_path(client)
    version = await transport.get("/model_info", _weight_version_of, CONNECTING)
    return Fingerprint(transport.url, size, version, path, await _logprobs(transport, path))


async def require_same_weights(first: Fingerprint, client: TokenClient) -> None:
    """Refuse a server whose weights differ from those of the first.

    Raises:
        ServerUnsuitableError: names both servers and the difference.
        ServerError: the server does not answer, or not as SGLang does.
    """
    if difference := await _difference(first, client):
        raise ServerUnsuitableError(
            f"{client.transport.url} serves other weights than {first.url}: {difference}; start "
            "all replicas with the same model, or connect to them one by one"
        )


async def _difference(first: Fingerprint, client: TokenClient) -> str | None:
    if (size := client.profile.vocabulary_size) != first.vocabulary_size:
        return f"its vocabulary has {size} tokens, not {first.vocabulary_size}"
    other = await fingerprint_of(client, first.path)
    if other.weight_version != first.weight_version:
        return f"its weight_version is {other.weight_version!r}, not {first.weight_version!r}"
    mean = float(np.mean(np.abs(first.logprobs - other.logprobs)))
    if mean <= MAX_DIFFERENCE:  # not so for NaN
        return None
    return f"its logprobs of the same tokens differ by {mean:.2g} nats on average"


async def _draw_path(client: TokenClient) -> tuple[int, ...]:
    """Tokens that the model generates, since any others may be foreign to it.

    Drawn at temperature 1, so that they hold unlikely tokens too, which differ most between models.
    """
    transport = client.transport
    prompt = await transport.post(
        "/tokenize", lambda: {"prompt": "1"}, tokens_of, patience=CONNECTING
    )
    num_tokens = max(1, min(_NUM_TOKENS, client.profile.context_length - len(prompt) - 1))
    params = {"max_new_tokens": num_tokens, "temperature": 1, "ignore_eos": True}
    answer = await transport.post(
        "/generate",
        lambda: generate_payload(prompt, params, request_id=new_request_id()),
        partial(parse_generation, logprob_temperature=1.0),
        patience=CONNECTING,
    )
    return (*prompt, *answer.token_ids)


async def _logprobs(transport: Transport, path: tuple[int, ...]) -> NDArray[np.float64]:
    params = {"max_new_tokens": 1, "temperature": 1}
    options: Json = {"return_logprob": True, "logprob_start_len": 0}
    return await transport.post(
        "/generate",
        lambda: generate_payload(path, params, request_id=new_request_id()) | options,
        partial(_input_logprobs_of, num_tokens=len(path)),
        patience=CONNECTING,
    )


def _weight_version_of(answer: object) -> str | None:
    version = as_object(answer).get("weight_version")
    return None if version is None else str(version)


def _input_logprobs_of(answer: object, num_tokens: int) -> NDArray[np.float64]:
    """The logprobs of a request's input tokens; the first has none."""
    rows = list_of(list, field(answer, "meta_info", dict), "input_token_logprobs")
    if len(rows) != num_tokens:
        raise ShapeError(f"it has logprobs of {len(rows)} input tokens, not {num_tokens}")
    try:
        return np.array([row[0] for row in rows[1:]], np.float64)
    except (IndexError, TypeError, ValueError) as error:
        raise ShapeError(f"its 'input_token_logprobs' is {shown(rows)}") from error
