"""The page and the JSON file of a proof, from the summary of its run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.proof.arguments import model_name, task_name
from evals.proof.settings import not_run, public_settings, settings_of
from evals.records.files import write_whole

__all__ = ["JSON", "PAGE", "write_proof"]

PAGE, JSON = "proof.md", "proof.json"
HEAD = ("method", "Cons@{M}", "Pass@{M}", "tokens", "of parallel's", "seconds", "of parallel's")
ABSENT = "–"
INTERVALS = (
    "Cons@M: the answer that most sequences give is right (in a vote, by its weights); Pass@M: "
    "some sequence is right. In brackets the difference to parallel. Intervals are 95 %, by a "
    "bootstrap over prompts, paired with parallel's, and not corrected for the number of methods."
)

Row = Mapping[str, Any]
Facts = Mapping[str, Any]


def write_proof(folder: Path, summary: Mapping[str, Any], facts: Facts) -> None:
    """Write both files.

    Args:
        summary: the content of `summary.json`.
        facts: what the summary does not know: when the run was made and when the page is written,
            the device, the command, the methods that there are, the tokens that are allowed, those
            of the pilot and those of the run.
    """
    names = ("model_digest", "logprobs", "versions", "partial", "num_failed")
    figures = ("rows", "savings", "findings", "notes")
    content = {
        "task": task_name(summary["task"]),
        "model": model_name(str(summary["model"])),
        **{name: facts[name] for name in facts if name != "known_methods"},
        **{name: summary[name] for name in names},
        "settings": public_settings(summary["config"]),
        "not_run": list(not_run(summary, facts["known_methods"])),
        **{name: summary[name] for name in figures},
    }
    write_whole(folder / JSON, content)
    (folder / PAGE).write_text("\n".join(_page(summary, facts)) + "\n")


def _page(summary: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    rows: Sequence[Row] = summary["rows"]
    tokens = facts["pilot_tokens"] + facts["run_tokens"]
    yield f"# {task_name(summary['task'])} with {model_name(str(summary['model']))}"
    yield ""
    yield (
        f"{rows[0]['num_prompts']} prompts, M = {rows[0]['max_sequences']}, "
        f"τ = {rows[0]['temperature']:g}, seeds {_listed(rows[0]['seeds'])}; {tokens:,} tokens "
        f"generated of {facts['tokens']:,} allowed. Device: {facts['device']}."
    )
    yield ""
    yield from _table(rows)
    yield ""
    yield INTERVALS
    for sentence in (*summary["savings"], *summary["findings"], *summary["notes"]):
        yield f"\n{sentence}"
    yield "\n## How it was run\n"
    yield "| | |\n| --- | --- |"
    known = {
        "command": f"`{facts['command']}`",
        "run made": facts["run_made"],
        "page written": facts["page_written"],
        "device": facts["device"],
        "model": _model(summary),
    }
    for name, value in (known | dict(settings_of(summary))).items():
        yield f"| {name} | {_cell(value)} |"
    yield "\n## What was not run\n"
    yield from (f"- {sentence}" for sentence in not_run(summary, facts["known_methods"]))


def _cell(text: str) -> str:
    """A text in a cell of a table, which a bar or a new line would end."""
    return text.replace("|", r"\|").replace("\n", " ")


def _model(summary: Mapping[str, Any]) -> str:
    digest = summary["model_digest"]
    weights = "weights not on this machine" if digest is None else f"digest of its weights {digest}"
    return f"{model_name(str(summary['model']))}, {weights}"


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
