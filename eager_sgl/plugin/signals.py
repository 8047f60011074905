"""What a step of a batch is read to: tensors in, one tensor out, nothing waits for the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from eager_sgl.plugin.entropy import top_k_entropies
from eager_sgl.plugin.vocabulary import COLUMNS, Column, StepNeeds

__all__ = [
    "FLAGS",
    "NUM_VALUES",
    "Distributions",
    "GateTable",
    "draw",
    "moved",
    "read_step",
]

FLAGS = len(COLUMNS)
NUM_VALUES = FLAGS + 1
"""Leading columns of a reading: those of `vocabulary.COLUMNS`, of which only those mean anything
that a row needs, and whether the step reaches θ (1), is to be stored (2), both (3) or neither (0).
"""
MIN_LOGPROB = -1e4
"""Stands for a logprob of −∞ in means."""
NUM_RANKED = 1024
"""Tokens that are ranked first where a top-p, a top-k or a min-p limits a draw."""


@dataclass(frozen=True)
class Distributions:
    """The distributions that a batch's tokens were drawn from.

    Attributes:
        table: [rows, vocabulary], probabilities at the temperatures, or logits.
        temperatures: [rows, 1]; 1 for greedy rows.
        are_logits: whether the table has logits.
    """

    table: Tensor
    temperatures: Tensor
    are_logits: bool

    def of(self, rows: Tensor | None) -> Distributions:
        """Those of some rows; of all for None."""
        if rows is None:
            return self
        table, temperatures = self.table[rows], self.temperatures[rows]
        return Distributions(table, temperatures, self.are_logits)

    def log_normalisers(self) -> Tensor | float:
        """[rows, 1], to be subtracted from the tempered logits."""
        if not self.are_logits:
            return 0.0
        return (self.table.float() / self.temperatures).logsumexp(-1, keepdim=True)

    def logprobs_of(self, entries: Tensor, log_normalisers: Tensor | float) -> Tensor:
        """Logprobs [rows, n] of entries [rows, n] of the table."""
        if not self.are_logits:
            return entries.float().log()
        return entries.float() / self.temperatures - log_normalisers

    def raw_log_normalisers(self) -> Tensor:
        """[rows, 1], to be subtracted from temperature · logprob for the logprob at temperature 1.

        They cost a pass over the vocabulary.
        """
        table = self.table.float()
        if self.are_logits:
            # τ · (z / τ − lse(z / τ)) − this = z − lse(z)
            lowered = self.temperatures * self.log_normalisers()
            return table.logsumexp(-1, keepdim=True) - lowered
        return table.pow(self.temperatures).sum(-1, keepdim=True).log()


class GateTable(NamedTuple):
    """What the observed rows of a batch need, on the device; [1] where all need the same.

    Attributes:
        rows: int64 [n], indices in the batch; None for all rows in their order.
        top_k: the largest K.
        beyond: bool [n, top_k], entries after a row's own K; None where all have the same K.
        temperatures: [n or 1, 1], of the distributions whose entropies are taken.
        thresholds: [n or 1], θ, infinite where none is asked; None where no row has one.
        stored_below: [n or 1], 0 where none is asked; None where no row stores steps.
        columns: those that a row asks for, or needs for a floor.
    """

    rows: Tensor | None
    top_k: int
    beyond: Tensor | None
    temperatures: Tensor
    thresholds: Tensor | None
    stored_below: Tensor | None
    columns: frozenset[Column]

    @classmethod
    def of(cls, needs: Sequence[StepNeeds | None], device: torch.device) -> GateTable:
        """Of a batch's rows, of which at least one is read; None for one without a gate."""
        return _table_of(tuple(needs), device)


@lru_cache(maxsize=8)
def _table_of(needs: tuple[StepNeeds | None, ...], device: torch.device) -> GateTable:
    """The table of the last batches, whose rows often stay the same for many steps."""
    observed = {row: each for row, each in enumerate(needs) if each is not None and each.is_read}
    different = list(dict.fromkeys(observed.values()))
    rows = different if len(different) == 1 else list(observed.values())
    numbers = [(row.top_k, row.temperature, row.threshold, row.stored_below) for row in rows]
    table, top_k = moved(torch.tensor(numbers), device), max(row.top_k for row in different)
    has_one_k = len({row.top_k for row in different}) == 1
    return GateTable(
        rows=None if len(observed) == len(needs) else moved(torch.tensor(list(observed)), device),
        top_k=top_k,
        beyond=None if has_one_k else torch.arange(top_k, device=device) >= table[:, :1],
        temperatures=table[:, 1:2],
        thresholds=table[:, 2] if any(row.threshold < math.inf for row in different) else None,
        stored_below=table[:, 3] if any(row.stored_below for row in different) else None,
        columns=frozenset(name for row in different for name in row.columns),
    )


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without a wait for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def read_step(all_rows: Distributions, drawn: Tensor, gates: GateTable) -> Tensor:
    """The reading of a step: float32 [n, NUM_VALUES + 2 K] for the n observed rows.

    Args:
        all_rows: of the whole batch.
        drawn: [rows], the tokens that were drawn.
        gates: of the observed rows.

    Returns:
        `NUM_VALUES` values, the logprobs of the K most likely tokens in the whole distribution at
        the row's temperature, and the bits of their int32 ids.
    """
    rows = all_rows.of(gates.rows)
    entries, ids = rows.table.topk(min(gates.top_k, rows.table.shape[-1]))
    normalisers = rows.log_normalisers()
    logprobs = rows.logprobs_of(entries, normalisers)
    beyond = None if gates.beyond is None else gates.beyond[:, : entries.shape[-1]]
    if beyond is not None:
        logprobs = logprobs.masked_fill(beyond, -torch.inf)
    scaled = logprobs * rows.temperatures
    values = dict.fromkeys(COLUMNS, torch.zeros_like(logprobs[:, 0]))
    flags = values["logprobs"]
    if "entropies" in gates.columns or gates.thresholds is not None:
        values["entropies"] = top_k_entropies(scaled, gates.temperatures)
    if gates.thresholds is not None:
        flags = flags + (values["entropies"] >= gates.thresholds)
    if gates.stored_below is not None:
        certainty = torch.softmax(scaled, -1)[:, 0] * logprobs.exp().sum(-1)
        flags = flags + 2 * (certainty < gates.stored_below)
    if "logprobs" in gates.columns or "raw_logprobs" in gates.columns:
        token_ids = (drawn if gates.rows is None else drawn[gates.rows]).long()[:, None]
        of_drawn = rows.logprobs_of(rows.table.gather(-1, token_ids), normalisers)
        values["logprobs"] = of_drawn[:, 0]
    if "raw_logprobs" in gates.columns:
        of_drawn = (of_drawn * rows.temperatures)[:, 0]
        values["raw_logprobs"] = _over_k(of_drawn, scaled, beyond)
    if "confidences" in gates.columns:
        values["confidences"] = _confidences(rows, scaled)
    columns = torch.stack((*values.values(), flags), -1)
    return torch.cat((columns, logprobs, ids.int().view(torch.float32)), -1)


def _over_k(logprobs: Tensor, scaled: Tensor, beyond: Tensor | None) -> Tensor:
    """Logprobs [n] of drawn tokens, over the K tokens [n, K]; of one outside that of the last."""
    last = scaled[:, -1] if beyond is None else scaled.masked_fill(beyond, torch.inf).amin(-1)
    # No token outside is likelier than the last.
    return torch.maximum(logprobs, last) - scaled.logsumexp(-1)


def _confidences(rows: Distributions, scaled: Tensor) -> Tensor:
    """[n], means of −ln p of the K tokens [n, K] at temperature 1."""
    known = scaled != -torch.inf
    # Rounding may leave a certain token a logprob above 0.
    logprobs = (scaled - rows.raw_log_normalisers()).clamp(min=MIN_LOGPROB, max=0)
    return -(logprobs * known).sum(-1) / known.sum(-1)


def draw(probabilities: Tensor, uniforms: Tensor, limits: Sequence[Tensor] | None) -> Tensor:
    """Tokens [n] by inversion of the distribution function.

    On a CPU the most likely tokens are ranked first, and all of them only in the rows where they
    do not hold all tokens within the limits. To choose rows a CUDA device would have to be waited
    for, so there all tokens of all rows are ranked.

    Args:
        probabilities: [n, vocabulary].
        uniforms: float64 [n], in [0, 1).
        limits: top-p [n], top-k [n] and min-p [n] as SGLang applies them; None for none of them.
    """
    if limits is None:
        return _inverse(probabilities, uniforms)
    if probabilities.is_cuda or probabilities.shape[-1] <= NUM_RANKED:
        return _draw_ranked(*_ranked(probabilities), uniforms, limits)[0]
    token_ids = probabilities.topk(NUM_RANKED, sorted=False).indices.sort(-1).values
    weights, order = _ranked(probabilities.gather(-1, token_ids))
    tokens, is_open = _draw_ranked(weights, token_ids.gather(-1, order), uniforms, limits)
    if len(rows := is_open.nonzero()[:, 0]):
        ranked = _ranked(probabilities[rows])
        limits = [limit[rows] for limit in limits]
        tokens[rows] = _draw_ranked(*ranked, uniforms[rows], limits)[0]
    return tokens


def _ranked(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weights [n, m], largest first, and their indices; of equal ones the first is first."""
    weights, order = weights.sort(dim=-1, descending=True, stable=True)
    return weights, order


def _draw_ranked(
    weights: Tensor, token_ids: Tensor, uniforms: Tensor, limits: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Tokens [n] within limits, and whether a token outside the ranked ones may be within [n].

    Args:
        weights: [n, m], of the m most likely tokens, largest first.
        token_ids: [n, m].
        uniforms, limits: as of `draw`.
    """
    top_ps, top_ks, min_ps = (limit[:, None] for limit in limits)
    before = weights.cumsum(-1) - weights
    ranks = torch.arange(weights.shape[-1], device=weights.device)
    dropped = (ranks >= top_ks) | (before > top_ps) | (weights < weights[:, :1] * min_ps)
    chosen = _inverse(weights.masked_fill(dropped, 0.0), uniforms)
    # Tokens outside may be as likely as the last, so all of those have to be dropped.
    is_open = (~dropped & (weights == weights[:, -1:])).any(-1)
    return token_ids.gather(-1, chosen[:, None])[:, 0], is_open


def _inverse(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first entry [n] up to which the share of a row's weights exceeds the uniform number."""
    sums = weights.double().cumsum(-1)
    wanted = uniforms[:, None] * sums[:, -1:]
    # Not beyond the last entry with a weight, should rounding reach the total.
    last = (sums < sums[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum((sums <= wanted).sum(-1, keepdim=True), last)[:, 0]
