"""Floors of confidence, below which requests end at the same token on all ranks of a model.

Kernels of the ranks may round differently, and a rank may fail to read a step, for want of memory.
The ranks would then have different requests, and wait for each other forever. So they agree on the
smallest of their confidences, of all rows of a batch: a rank on which some gates have failed reads
fewer of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eager_sgl.plugin.reports import CONFIDENCE
from eager_sgl.plugin.seeds import agree
from eager_sgl.plugin.signals import NUM_VALUES
from eager_sgl.plugin.vocabulary import StepNeeds

__all__ = ["agree_on_confidences", "unread_step"]


def agree_on_confidences(sampler: Any, reading: Tensor, rows: Tensor | None, num_rows: int) -> None:
    """Replace the confidences of a reading by the smallest ones of all ranks.

    Every rank has to call it, also where its reading has failed.

    Args:
        sampler: SGLang's, which knows the ranks.
        reading: [n, …], as of `signals.read_step`.
        rows: int64 [n], of the batch; None for all in their order.
        num_rows: of the batch.
    """
    chosen = slice(None) if rows is None else rows
    confidences = torch.full((num_rows,), torch.inf, device=reading.device)
    confidences[chosen] = reading[:, CONFIDENCE]
    agree(sampler, confidences)
    reading[:, CONFIDENCE] = confidences[chosen]


def unread_step(needs: Sequence[StepNeeds | None], device: torch.device) -> tuple[Tensor, Tensor]:
    """What stands for a reading that has failed, and its rows: any confidence is smaller."""
    rows = [row for row, of_row in enumerate(needs) if of_row and of_row.is_read]
    reading = torch.zeros(len(rows), NUM_VALUES, device=device)
    reading[:, CONFIDENCE] = torch.inf
    return reading, torch.tensor(rows, device=device)
