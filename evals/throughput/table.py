"""The lines that `evals/bench.py` prints, each as soon as it is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from evals.throughput.client import ClientSpeed, Residue
from evals.throughput.shapes import Throughput

__all__ = ["print_heads", "print_rows", "print_throughput"]

HEADS = (
    *("mode", "prompts", "M", "monitor", "chunk", "token/s", "spread", "efficiency", "req/1k"),
    *("discard", "pre/1k", "server/1k", "client/1k", "live"),
)
CLIENT_WIDTH = 26


def print_heads() -> None:
    """The heads of `print_throughput`."""
    _print_line(HEADS)


def print_throughput(row: Throughput) -> None:
    """A contender on a shape."""
    low, high = row.tokens_per_second_range
    steps, server = row.prefill_steps_per_1000_tokens, row.server_seconds_per_1000_tokens
    _print_line(
        (
            row.mode,
            row.prompts,
            row.max_sequences,
            row.monitor,
            row.chunk_tokens or "",
            f"{row.tokens_per_second:.0f}",
            f"{low:.0f}-{high:.0f}",
            f"{row.efficiency:.3f}",
            f"{row.requests_per_1000_tokens:.1f}",
            f"{row.discarded_share:.1%}",
            "" if steps is None else f"{steps:.1f}",
            "" if server is None else f"{server:.2f}",
            f"{row.client_seconds_per_1000_tokens:.3f}",
            row.live_sequences,
        )
    )


def print_rows(rows: Iterable[ClientSpeed | Residue]) -> None:
    """The client alone, with heads."""
    for index, row in enumerate(rows):
        fields = asdict(row)
        if index == 0:
            _print_line(fields, CLIENT_WIDTH)
        values = (v if isinstance(v, int | str) else f"{v:.1f}" for v in fields.values())
        _print_line(values, CLIENT_WIDTH)


def _print_line(values: Iterable[object], width: int = 10) -> None:
    print(" ".join(f"{value!s:>{width}}" for value in values), flush=True)
