"""Whether a server honours the seed of a request, checked with real requests.

SGLang 0.5.23 honours `sampling_seed` under --enable-deterministic-inference and ignores it
otherwise. The noise of a step is then a function of the seed, the position of the last token in the
context, and the rank of each token: a request that continues another with its seed draws the tokens
that the other would have drawn. In a batch in which no request has a top-p, a top-k or temperature
0 it is a function of the token id instead of the rank; so draws at top-p 1 depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from eager_sgl.core import Generation
from eager_sgl.engine.limits import PROBE, Patience
from eager_sgl.engine.protocol import Json, generate_payload, new_request_id, parse_generation

__all__ = ["honours_seed"]

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


async def honours_seed(transport: Posts, token_ids: Sequence[int]) -> bool:
    """Whether equal seeds give equal tokens, also in a request that continues another.

    Args:
        transport: to the server.
        token_ids: a context that the model takes.

    Raises:
        ServerError: the server does not answer, or not as SGLang does.
    """
    half = _NUM_TOKENS // 2
    tokens = await _draw(transport, token_ids, seed=1)
    rest = await _draw(transport, (*token_ids, *tokens[:half]), seed=1, num_tokens=half)
    return (
        rest == tokens[half:]
        and await _draw(transport, token_ids, seed=1) == tokens
        and await _draw(transport, token_ids, seed=2) != tokens
    )


async def _draw(
    transport: Posts, token_ids: Sequence[int], *, seed: int, num_tokens: int = _NUM_TOKENS
) -> tuple[int, ...]:
    params = {
        "max_new_tokens": num_tokens,
        "temperature": _TEMPERATURE,
        "top_p": _TOP_P,
        "ignore_eos": True,
        "sampling_seed": seed,
    }
    decode: Callable[[Json], Generation] = partial(parse_generation, logprob_temperature=1.0)
    answer = await transport.post(
        "/generate",
        lambda: generate_payload(token_ids, params, request_id=new_request_id()),
        decode,
        patience=PROBE,
    )
    return answer.token_ids
