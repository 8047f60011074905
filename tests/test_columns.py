"""The values that the gate reports of every token, in the sequences of Full Parallel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eager_sgl import FullParallel, PromptResult, SamplingConfig
from eager_sgl.core import Generation
from eager_sgl.errors import ServerUnsuitableError
from eager_sgl.plugin.vocabulary import COLUMNS
from eager_sgl.tree import TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.runs import gated
from tests.fakes.scripted import ScriptedServer

SAMPLING = SamplingConfig(temperature=0.8, max_new_tokens=12)


def run_with_columns(server: ScriptedServer) -> PromptResult:
    return run_method(FullParallel(SAMPLING, 4, None, columns=COLUMNS), endpoint_of(server))


@pytest.mark.parametrize("model", range(4))
def test_every_token_has_its_values(model: int) -> None:
    result = run_with_columns(gated(model))
    assert result.monitor == "gate"
    for sequence in result.sequences:
        values = (sequence.logprobs, sequence.entropies, sequence.confidences)
        assert [len(column) for column in values] == [len(sequence.token_ids)] * 3
        assert all(np.isfinite(column).all() for column in values)
        assert sequence.raw_logprob is not None
        assert sequence.raw_logprob < 0


def test_columns_need_the_plugin(scripted: ScriptedServer) -> None:
    with pytest.raises(ServerUnsuitableError, match="it has no plugin"):
        run_with_columns(scripted)


def test_confidences_of_some_requests_keep_their_positions() -> None:
    tree = TokenTree((9,), max_new_tokens=8)
    segment = tree.open_root()

    def append(tokens: tuple[int, ...], confidences: list[float] | None) -> None:
        column = None if confidences is None else np.array(confidences, np.float32)
        tree.append(segment, Generation(tokens, None, 1, 0, confidences=column), len(tokens))

    append((1,), None)
    assert segment.path_confidences() == []
    append((2, 3), [0.5, 0.25])
    append((4,), None)
    append((5,), [1.0])
    assert [*map(math.isnan, segment.path_confidences())] == [True, False, False, True, False]
    assert segment.path_confidences()[1:3] == [0.5, 0.25]
