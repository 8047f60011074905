"""The readings of a step equal those of `eager_sgl.signals` on the whole distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from eager_sgl.plugin import signals
from eager_sgl.plugin.signals import (
    FLAGS,
    NUM_RANKED,
    NUM_VALUES,
    Distributions,
    GateTable,
    _draw_ranked,
    _ranked,
    draw,
    read_step,
)
from eager_sgl.plugin.vocabulary import COLUMNS, Gate
from eager_sgl.signals import retemper, top_k_entropy

CPU = torch.device("cpu")
VOCABULARY = 50


def logits_of(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sharpness = torch.rand(rows, 1, generator=generator) * 6
    return torch.randn(rows, VOCABULARY, generator=generator) * sharpness


def distributions(logits: Tensor, temperatures: Tensor, *, are_logits: bool) -> Distributions:
    table = logits if are_logits else torch.softmax(logits / temperatures, -1)
    return Distributions(table, temperatures, are_logits)


@pytest.mark.parametrize("are_logits", [False, True])
@pytest.mark.parametrize("top_k", [2, 20, 50, 80])
def test_readings_equal_those_of_the_whole_distributions(top_k: int, are_logits: bool) -> None:
    number = 60
    logits = logits_of(number)
    generator = torch.Generator().manual_seed(1)
    temperatures = torch.rand(number, 1, generator=generator) + 0.5
    drawn = torch.randint(0, VOCABULARY, (number,), generator=generator)
    gate = Gate(top_k=top_k, threshold=1.0, temperature=0.8, stored_below=0.9, columns=COLUMNS)
    rows = distributions(logits, temperatures, are_logits=are_logits)
    reading = read_step(rows, drawn, GateTable.of([gate.needs] * number, CPU)).numpy()
    k = min(top_k, VOCABULARY)
    for row in range(number):
        tempered = torch.log_softmax(logits[row] / temperatures[row], -1).numpy()
        raw = torch.log_softmax(logits[row], -1).numpy()
        ids = np.argsort(-tempered)[:k]
        over_k = retemper(raw[ids], taken_at=1.0, wanted=1.0)
        entropy = top_k_entropy(retemper(raw[ids], taken_at=1.0, wanted=0.8))
        rank = int(np.flatnonzero(ids == drawn[row].item())[0]) if drawn[row] in ids else k - 1
        certainty = over_k[0] * np.exp(tempered[ids]).sum()
        values = reading[row, :NUM_VALUES]
        assert values[0] == pytest.approx(tempered[drawn[row]], abs=1e-3)
        assert values[1] == pytest.approx(np.log(over_k[rank]), abs=1e-3)
        assert values[2] == pytest.approx(entropy, abs=1e-4)
        assert values[3] == pytest.approx(-raw[ids].mean(), abs=1e-3)
        if abs(entropy - 1) > 1e-4 and abs(certainty - 0.9) > 1e-4:
            assert values[4] == (entropy >= 1) + 2 * (certainty < 0.9)
        np.testing.assert_allclose(
            reading[row, NUM_VALUES : NUM_VALUES + k], tempered[ids], atol=1e-3
        )
        assert reading[row, NUM_VALUES + k :].view(np.int32).tolist() == ids.tolist()


def entropy_errors(temperature: float) -> np.ndarray:
    """Of the entropies at temperature 1, from probabilities at another one."""
    number, gate = 500, Gate(top_k=20, columns=("entropies",))
    logits, temperatures = logits_of(number, seed=7), torch.full((number, 1), temperature)
    rows = distributions(logits, temperatures, are_logits=False)
    drawn = torch.zeros(number, dtype=torch.long)
    read = read_step(rows, drawn, GateTable.of([gate.needs] * number, CPU)).numpy()
    top = np.sort(logits.numpy())[:, ::-1][:, :20]
    exact = top_k_entropy(retemper(top, taken_at=1.0, wanted=1.0))
    return np.asarray(exact - read[:, COLUMNS.index("entropies")])


def test_entropies_are_exact_down_to_the_temperature_that_the_pages_name() -> None:
    """Below it unlikely alternatives have probability 0 in float32."""
    assert np.abs(entropy_errors(0.1)).max() < 0.03
    assert entropy_errors(0.01).max() > 0.5


def test_rows_have_gates_of_their_own_and_others_have_none() -> None:
    number = 60
    logits, temperatures = logits_of(number, seed=3), torch.ones(number, 1)
    kinds = [
        Gate(top_k=5, threshold=0.4, columns=COLUMNS),
        None,
        Gate(top_k=20, temperature=0.6, stored_below=0.8, columns=COLUMNS),
        Gate(seed=1),
        Gate(top_k=2, threshold=0.3, temperature=2.0, stored_below=0.9, columns=COLUMNS),
        Gate(top_k=80, columns=COLUMNS),  # more than the vocabulary
    ]
    needs = [None if gate is None else gate.needs for gate in kinds] * (number // len(kinds))
    drawn = torch.randint(0, VOCABULARY, (number,), generator=torch.Generator().manual_seed(1))
    rows = distributions(logits, temperatures, are_logits=False)
    table = GateTable.of(needs, CPU)
    assert table.rows is not None
    together = read_step(rows, drawn, table)
    size = (together.shape[1] - NUM_VALUES) // 2
    for place, row in enumerate(table.rows.tolist()):
        of_row = needs[row]
        assert of_row is not None
        one = torch.tensor([row])
        alone = read_step(rows.of(one), drawn[one], GateTable.of([of_row], CPU))[0]
        top_k = min(of_row.top_k, VOCABULARY)
        torch.testing.assert_close(together[place, :NUM_VALUES], alone[:NUM_VALUES])
        for start, start_alone in ((NUM_VALUES, NUM_VALUES), (NUM_VALUES + size, -top_k)):
            kept = together[place, start : start + top_k]
            assert torch.equal(kept, alone[start_alone:][:top_k])
    assert set(together[:, FLAGS].tolist()) == {0.0, 1.0, 2.0, 3.0}


def test_rows_with_the_same_needs_are_read_where_they_are() -> None:
    """To choose rows of a large vocabulary costs a copy of their distributions."""
    needs = [Gate(stored_below=0.9).needs, Gate(threshold=0.5, top_k=4).needs]
    assert needs[0] is not None
    assert Gate(stored_below=0.9).needs is needs[0]
    assert GateTable.of([needs[0]] * 3, CPU).temperatures.shape == (1, 1)
    assert GateTable.of([needs[0], needs[1], needs[0]], CPU).rows is None
    for other in (None, Gate(seed=1).needs):
        rows = GateTable.of([needs[0], other, needs[0]], CPU).rows
        assert rows is not None
        assert rows.tolist() == [0, 2]


def test_impossible_tokens_are_minus_infinity_and_not_nan() -> None:
    logits = torch.full((1, VOCABULARY), -torch.inf)
    logits[0, :3] = torch.tensor([0.0, 1.0, 2.0])
    rows = distributions(logits, torch.ones(1, 1), are_logits=False)
    gate = Gate(top_k=20, columns=("entropies", "confidences"))
    reading = read_step(rows, torch.tensor([2]), GateTable.of([gate.needs], CPU))[0]
    assert not reading[: NUM_VALUES + 20].isnan().any()
    assert reading[NUM_VALUES + 3 : NUM_VALUES + 20].eq(-torch.inf).all()
    assert reading[2].item() == pytest.approx(0.8324, abs=1e-4)


@pytest.mark.parametrize("are_logits", [False, True])
def test_a_certain_token_has_a_confidence_of_at_least_0(are_logits: bool) -> None:
    """Where all other tokens are impossible; a later request sends it back as one `before` it."""
    number = 200
    logits = torch.full((number, VOCABULARY), -torch.inf)
    logits[:, 7] = torch.linspace(-40, 40, number)
    rows = distributions(logits, torch.full((number, 1), 0.7), are_logits=are_logits)
    table = GateTable.of([Gate(top_k=20, columns=("confidences",)).needs] * number, CPU)
    confidences = read_step(rows, torch.full((number,), 7), table)[:, COLUMNS.index("confidences")]
    assert ((confidences >= 0) & (confidences < 1e-3)).all()


FULL = 1 << 30
LIMITS = [(0.95, FULL, 0.0), (1.0, 40, 0.0), (0.9, 3000, 0.2), (1.0, FULL, 0.001), (1.0, FULL, 0.0)]


@pytest.mark.parametrize("sharpness", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("grid", [0.0, 1.0])
@pytest.mark.parametrize(("top_p", "top_k", "min_p"), LIMITS)
def test_draws_from_the_most_likely_tokens_equal_those_from_all_of_them(
    top_p: float, top_k: int, min_p: float, grid: float, sharpness: float
) -> None:
    """Also where many tokens are equally likely (logits on a grid)."""
    number, vocabulary = 40, 3 * NUM_RANKED
    torch.manual_seed(int(sharpness))
    logits = torch.randn(number, vocabulary) * sharpness * torch.rand(number, 1) * 2
    logits = (logits / grid).round() * grid if grid else logits
    probabilities = torch.softmax(logits, -1)
    limits = [torch.full((number,), value) for value in (top_p, top_k, min_p)]
    uniforms = torch.rand(number, dtype=torch.float64)
    expected, _ = _draw_ranked(*_ranked(probabilities), uniforms, limits)
    assert torch.equal(draw(probabilities, uniforms, limits), expected)


def test_all_tokens_are_ranked_in_those_rows_alone_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits = torch.zeros(5, 2 * NUM_RANKED)
    logits[[0, 2, 4], :10] = 20.0
    ranked: list[torch.Size] = []

    def rank(weights: Tensor) -> tuple[Tensor, Tensor]:
        ranked.append(weights.shape)
        return _ranked(weights)

    monkeypatch.setattr(signals, "_ranked", rank)
    limits = [torch.full((5,), value) for value in (0.95, FULL, 0.0)]
    draw(torch.softmax(logits, -1), torch.rand(5, dtype=torch.float64), limits)
    assert ranked == [(5, NUM_RANKED), (2, 2 * NUM_RANKED)]


@pytest.mark.parametrize(
    ("top_p", "top_k", "min_p"),
    [(1.0, 1 << 30, 0.0), (0.7, 1 << 30, 0.0), (0.9, 3, 0.0), (1.0, 50, 0.3)],
)
def test_draws_have_the_law_of_the_server_s_sampler(top_p: float, top_k: int, min_p: float) -> None:
    from sglang.srt.layers.sampler import top_k_top_p_min_p_sampling_from_probs_torch

    number = 40_000
    torch.manual_seed(1)
    probabilities = torch.softmax(logits_of(1, seed=5), -1).expand(number, -1)
    limits = [torch.full((number,), value) for value in (top_p, top_k, min_p)]
    ours = draw(probabilities, torch.rand(number, dtype=torch.float64), limits)
    theirs = top_k_top_p_min_p_sampling_from_probs_torch(
        probabilities.clone(), limits[1], limits[0], limits[2], min_p > 0, None, torch.zeros(number)
    )
    shares = [torch.bincount(t.long(), minlength=VOCABULARY) / number for t in (ours, theirs)]
    assert (shares[0] - shares[1]).abs().max() < 0.015
    assert ((shares[0] > 0.002) == (shares[1] > 0.002)).all()
    plain = draw(probabilities, torch.rand(number, dtype=torch.float64), None)
    share = torch.bincount(plain, minlength=VOCABULARY) / number
    assert (share - probabilities[0]).abs().max() < 0.015


def test_the_ends_of_the_unit_interval_draw_possible_tokens() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.5, 0.0]] * 2)
    uniforms = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw(probabilities, uniforms, None).tolist() == [1, 2]
