"""The lines that `evals/bench.py` prints, each as soon as it is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from evals.throughput.client import ClientSpeed, Residue
from evals.throughput.rows import Share, Throughput

__all__ = ["print_heads", "print_rows", "print_throughput"]

COLUMNS = {
    "mode": 9,
    "prompts": 7,
    "M": 4,
    "method": 13,
    "monitor": 8,
    "chunk": 5,
    "width": 5,
    "token/s": 8,
    "efficiency": 16,
    "delivered": 16,
    "passes": 6,
    "live": 5,
    "running": 7,
    "ms/step": 8,
    "req/1k": 6,
    "discard": 7,
    "pre/1k": 6,
    "server/1k": 9,
    "client/1k": 9,
}
"""Heads with widths: rates of decoded and of delivered tokens as shares of plain sampling; "/1k" is
per 1,000 delivered tokens."""
CLIENT_WIDTH = 26


def print_heads() -> None:
    """The heads of `print_throughput`."""
    _print_line(COLUMNS, COLUMNS.values())


def print_throughput(row: Throughput) -> None:
    """A contender on a shape."""
    step_milliseconds = row.step_seconds and row.step_seconds * 1e3
    values = (
        row.mode,
        row.prompts,
        row.max_sequences,
        row.method,
        row.monitor,
        _known(row.chunk_tokens),
        _known(row.width),
        f"{row.tokens_per_second:.0f}",
        _share(row.efficiency),
        _share(row.delivered_efficiency),
        row.num_passes,
        _known(row.live_sequences),
        _known(row.running, ".0f"),
        _known(step_milliseconds, ".1f"),
        f"{row.requests_per_1000_tokens:.1f}",
        f"{row.discarded_share:.1%}",
        _known(row.prefill_steps_per_1000_tokens, ".1f"),
        _known(row.server_seconds_per_1000_tokens, ".2f"),
        f"{row.client_seconds_per_1000_tokens:.3f}",
    )
    _print_line(values, COLUMNS.values())


def _share(share: Share) -> str:
    low, high = share.range
    return f"{share.median:.2f} [{low:.2f}, {high:.2f}]"


def _known(value: float | None, form: str = "") -> str:
    return "" if value is None else format(value, form)


def print_rows(rows: Iterable[ClientSpeed | Residue]) -> None:
    """The client alone, with heads."""
    for index, row in enumerate(rows):
        fields = asdict(row)
        widths = [CLIENT_WIDTH] * len(fields)
        if index == 0:
            _print_line(fields, widths)
        _print_line(
            (v if isinstance(v, int | str) else f"{v:.1f}" for v in fields.values()), widths
        )


def _print_line(values: Iterable[object], widths: Iterable[int]) -> None:
    cells = (f"{value!s:>{width}}" for value, width in zip(values, widths, strict=True))
    print(" ".join(cells), flush=True)
