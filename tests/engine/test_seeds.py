"""The probe of seeds: only equal tokens for equal seeds, and others for other seeds, count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from eager_sgl.config import SamplingConfig
from eager_sgl.engine.limits import CONNECTING, Patience
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.requests import Request
from eager_sgl.engine.seeds import gate_seed, honours_seed, sampling_seed
from eager_sgl.errors import ServerError
from eager_sgl.plugin.vocabulary import KEY, Gate
from tests.fakes.scripted import ScriptedServer, mixed_distribution


def test_a_request_has_a_seed_only_if_it_is_given() -> None:
    request = Request((9,), 4, SamplingConfig())
    assert "sampling_seed" not in request.params()
    assert replace(request, seed=0).params()["sampling_seed"] == 0
    assert replace(request, gate=Gate(seed=7)).params()["custom_params"] == {KEY: {"seed": 7}}


class AsyncServer:
    """A scripted server whose seeds, its own and those of its gate, a test may change.

    Args:
        change: (seed, position of the first token) -> the seed that is used.
    """

    def __init__(self, change: Callable[[int, int], int], *, honours_seed: bool = True) -> None:
        self._server = ScriptedServer(
            mixed_distribution(1), honours_seed=honours_seed, allows_gate=honours_seed
        )
        self._change = change

    async def post(
        self,
        path: str,
        build: Callable[[], Json],
        decode: Callable[[Json], Any],
        *,
        patience: Patience,
    ) -> Any:
        body = build()
        assert patience is CONNECTING
        params = body["sampling_params"]
        holder, name = params, "sampling_seed"
        if "custom_params" in params:
            holder, name = params["custom_params"][KEY], "seed"
        holder[name] = self._change(holder[name], len(body["input_ids"]))
        return decode(self._server.answer(path, body))


def found(change: Callable[[int, int], int], params_of: Any, *, honours: bool = True) -> bool:
    server = AsyncServer(change, honours_seed=honours)
    return asyncio.run(honours_seed(server, (9, 2), params_of))


FORMS = pytest.mark.parametrize("params_of", [sampling_seed, gate_seed])


@FORMS
def test_a_server_that_honours_seeds_is_recognised(params_of: Any) -> None:
    assert found(lambda seed, _: seed, params_of)


@FORMS
@pytest.mark.parametrize(
    "change",
    [lambda *_: 42, lambda seed, start: seed + start],
    ids=["one seed for all", "noise by the place in the request"],
)
def test_other_uses_of_the_seed_do_not_count(
    change: Callable[[int, int], int], params_of: Any
) -> None:
    assert not found(change, params_of)


@FORMS
def test_a_server_that_ignores_seeds_is_recognised(params_of: Any) -> None:
    assert not found(lambda seed, _: seed, params_of, honours=False)


def test_an_aborted_probe_is_an_error() -> None:
    class Aborting(AsyncServer):
        async def post(self, path: str, build: Any, decode: Any, *, patience: Any) -> Any:
            meta = {"finish_reason": {"type": "abort", "message": "no memory"}}
            return decode({"output_ids": [], "meta_info": meta})

    with pytest.raises(ServerError, match="no memory"):
        asyncio.run(honours_seed(Aborting(lambda seed, _: seed), (9,)))
