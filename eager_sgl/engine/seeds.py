"""Whether a server honours the seed of a request, checked with real requests.

SGLang 0.5.23 honours `sampling_seed` under --enable-deterministic-inference and ignores it
otherwise; the gate's plugin honours `Gate.seed` on any server, for which such requests are slower.
The noise of a step is then a function of the seed, the position of the last token in the
context, and the rank of each token: a request that continues another with its seed draws the tokens
that the other would have drawn. In a batch in which no request has a top-p, a top-k or temperature
0 it is a function of the token id instead of the rank; so draws at top-p 1 depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from eager_sgl.core import Generation
from eager_sgl.engine.limits import CONNECTING, Patience
from eager_sgl.engine.loop import together
from eager_sgl.engine.protocol import Json, generate_payload, new_request_id, parse_generation
from eager_sgl.plugin.vocabulary import Gate

__all__ = ["gate_seed", "honours_seed", "sampling_seed"]

_NUM_TOKENS = 16
_TEMPERATURE = 1e4
"""So high that all tokens of the vocabulary are about as likely: no two draws are equal by
chance."""
_TOP_P = 0.95
"""Below 1, so that the draws do not depend on the rest of the batch."""

Decoded = TypeVar("Decoded")


class Posts(Protocol):
    """The part of an asynchronous transport that a probe needs."""

    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Json], Decoded],
        *,
        patience: Patience,
    ) -> Decoded: ...


def sampling_seed(seed: int) -> dict[str, object]:
    """The sampling parameters of a seed, as SGLang has it."""
    return {"sampling_seed": seed}


def gate_seed(seed: int) -> dict[str, object]:
    """The sampling parameters of a seed, as the plugin has it."""
    return {"custom_params": Gate(seed=seed).custom_params()}


async def honours_seed(
    transport: Posts,
    token_ids: Sequence[int],
    params_of: Callable[[int], Mapping[str, object]] = sampling_seed,
) -> bool:
    """Whether a request that continues another with its seed draws the tokens of the other.

    Another seed must give other tokens.

    Args:
        transport: to the server.
        token_ids: a context that the model takes.
        params_of: seed -> sampling parameters: `sampling_seed` or `gate_seed`.

    Raises:
        ServerError: the server does not answer, or not as SGLang does.
    """
    one, two, half = params_of(1), params_of(2), _NUM_TOKENS // 2
    tokens = await _draw(transport, token_ids, one)
    async with together() as group:
        others = group.create_task(_draw(transport, token_ids, two))
        rest = group.create_task(_draw(transport, (*token_ids, *tokens[:half]), one, half))
    return rest.result() == tokens[half:] and others.result() != tokens


async def _draw(
    transport: Posts,
    token_ids: Sequence[int],
    seed: Mapping[str, object],
    num_tokens: int = _NUM_TOKENS,
) -> tuple[int, ...]:
    params = {
        "max_new_tokens": num_tokens,
        "temperature": _TEMPERATURE,
        "top_p": _TOP_P,
        "ignore_eos": True,
        **seed,
    }
    decode: Callable[[Json], Generation] = partial(parse_generation, logprob_temperature=1.0)
    answer = await transport.post(
        "/generate",
        lambda: generate_payload(token_ids, params, request_id=new_request_id()),
        decode,
        patience=CONNECTING,
    )
    return answer.token_ids
