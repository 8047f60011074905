"""OpenAI's words for the ends of sequences."""

from __future__ import annotations

from typing import get_args

import pytest

from eager_sgl.core import FinishReason
from eager_sgl.server.answers import Text

ENDS_WITH_AN_ANSWER = ("stop", "probed")


@pytest.mark.parametrize("reason", get_args(FinishReason))
def test_a_sequence_with_its_answer_has_stopped(reason: FinishReason) -> None:
    expected = "stop" if reason in ENDS_WITH_AN_ANSWER else "length"
    assert Text("7", reason).reason == expected
