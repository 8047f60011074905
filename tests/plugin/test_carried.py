"""Parameters in request ids: what a router drops arrives, and what a stranger writes is refused."""

from __future__ import annotations

import pytest

from eager_sgl.plugin.carried import (
    carried_params,
    carrying_id,
    checked_interval,
    is_carrying,
    plain_id,
)


def test_an_id_carries_parameters_and_keeps_its_name() -> None:
    params = {"custom_params": {"eager": {"threshold": 1.5}}, "stream_interval": 64}
    carrying = carrying_id("eager-1", params)
    assert carried_params(carrying) == params
    assert plain_id(carrying) == plain_id("eager-1") == "eager-1"


@pytest.mark.parametrize(
    "request_id", ["", "1", "eager-1", "other?{}", 'other?{"custom_params":1}']
)
def test_other_ids_carry_nothing(request_id: str) -> None:
    assert carried_params(request_id) == {}


@pytest.mark.parametrize("request_id", [None, 7, ["eager-1?{}"]])
def test_what_is_no_text_carries_nothing(request_id: object) -> None:
    """The question is asked of every request, inside the server."""
    assert not is_carrying(request_id)


@pytest.mark.parametrize("text", ["", "1", "[]", "{", "null", "{]"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        carried_params(f"eager-1?{text}")


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.5, "1", True, None, [1]])
def test_an_interval_is_a_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match="stream_interval"):
        checked_interval(value)
