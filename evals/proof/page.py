"""The page and the JSON file of a proof, from the summary of its run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.proof.arguments import task_name
from evals.records.files import write_whole

__all__ = ["JSON", "PAGE", "write_proof"]

PAGE, JSON = "proof.md", "proof.json"
HEAD = ("method", "Cons@{M}", "Pass@{M}", "tokens", "of parallel's", "seconds", "of parallel's")
ABSENT = "–"

Row = Mapping[str, Any]
Facts = Mapping[str, Any]


def write_proof(folder: Path, summary: Mapping[str, Any], facts: Facts) -> None:
    """Write both files.

    Args:
        summary: the content of `summary.json`.
        facts: what the summary does not know: the device, the command, the tokens that are allowed
            and those of the pilot.
    """
    names = ("task", "model", "model_digest", "versions", "rows", "savings", "findings", "notes")
    content = {**facts, **{name: summary[name] for name in names}}
    content["task"] = task_name(summary["task"])
    content["model"] = Path(str(summary["model"])).name
    write_whole(folder / JSON, content)
    (folder / PAGE).write_text("\n".join(_page(summary, facts)) + "\n")


def _page(summary: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    rows: Sequence[Row] = summary["rows"]
    versions = ", ".join(f"{name} {text}" for name, text in summary["versions"].items())
    tokens = int(facts["pilot_tokens"]) + sum(map(_own_tokens, rows))
    yield f"# {task_name(summary['task'])} with {Path(str(summary['model'])).name}"
    yield ""
    yield (
        f"{rows[0]['num_prompts']} prompts, M = {rows[0]['max_sequences']}, "
        f"τ = {rows[0]['temperature']:g}, seeds {_listed(rows[0]['seeds'])}; {tokens:,} tokens "
        f"generated of {facts['tokens']:,} allowed. Device: {facts['device']}. {versions}."
    )
    yield ""
    yield from _table(rows)
    yield ""
    yield "Differences and shares with 95 % intervals, paired over prompts."
    for sentence in (*summary["savings"], *summary["findings"], *summary["notes"]):
        yield f"\n{sentence}"
    yield f"\nMade by `{facts['command']}`."


def _own_tokens(row: Row) -> int:
    """Without those of a first stage, which has another row."""
    stage_two = row["stage_two"]
    if stage_two is None:
        return int(row["tokens_generated"])
    per_extra: float = stage_two["tokens_per_extra"] or 0.0
    return round(per_extra * int(stage_two["extra_used"]))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _table(rows: Sequence[Row]) -> Iterator[str]:
    parallel = next(row for row in rows if row["method"] == "parallel")
    yield f"| {' | '.join(HEAD).format(M=parallel['max_sequences'])} |"
    yield f"|{' --- |' * len(HEAD)}"
    for row in rows:
        beside = row["beside_parallel"] or {}
        cells = (
            row["name"],
            _share(row["cons_at_k"], beside.get("majority")),
            _share(row["pass_at_k"], beside.get("coverage")),
            f"{row['tokens_generated']:,}",
            _ratio(beside.get("tokens"), beside.get("tokens_interval")),
            f"{row['wall_seconds']:.0f}" if row["wall_seconds"] else ABSENT,
            _ratio(_seconds(row, parallel), None),
        )
        yield f"| {' | '.join(cells)} |"


def _seconds(row: Row, parallel: Row) -> float | None:
    """As a share of Full Parallel's."""
    if row is parallel or not (row["wall_seconds"] and parallel["wall_seconds"]):
        return None
    return float(row["wall_seconds"] / parallel["wall_seconds"])


def _share(value: float | None, difference: Mapping[str, Any] | None) -> str:
    if value is None:
        return ABSENT
    if not difference:
        return f"{value:.3f}"
    low, high = difference["interval"] or (float("nan"),) * 2
    return f"{value:.3f} ({difference['value']:+.3f} [{low:+.3f}, {high:+.3f}])"


def _ratio(value: float | None, interval: Sequence[float] | None) -> str:
    if not value:
        return ABSENT
    ends = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    return f"{value:.2f}{ends}"
