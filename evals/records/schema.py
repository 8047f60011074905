"""The schema of a run's files, and how files of schema 1, of version 0.1.0, are read.

Content of schema 1 gets the names and values of schema 2 before anything else sees it. Both
functions return other content unchanged, valid or not: the reader reports its errors.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SCHEMA", "upgrade_header", "upgrade_line"]

SCHEMA = 2
OF_PLAN = (
    *("methods", "max_sequences", "thresholds", "temperatures", "seeds", "stage_twos"),
    *("parallel_sequences", "num_prompts", "can_vote", "control_temperatures"),
)
SEARCH_OPTIONS = ("priority", "max_tokens")
NEW_NAMES = {
    "refused": "deferred",
    "shown": "entropy_histogram",
    "hand_set": "forced",
    "how": "mode",
    "prompts": "prompts_digest",
    "running_quantile": "adaptive_quantile",
}
NEW_VALUES = {
    "bids": {"doubt": "vote_uncertainty"},
    "priority": {"consequential_early_peaks": "divergent_early_peaks"},
}


def upgrade_header(content: Any) -> Any:
    """The content of `config.json` in the present schema.

    In schema 1 the fields of the plan and the kind of the server's logprobs were fields of the
    configuration, and fields without a meaning were omitted.
    """
    if not isinstance(content, dict) or content.get("schema") != 1:
        return content
    if not isinstance(config := content.get("config"), dict):
        return content
    absent: dict[str, object] = {"control_temperatures": [], "running_quantile": None}
    config = _renamed(absent | config)
    if isinstance(search := config.get("search"), dict):
        by = None if search.get("token_budget") is None else "frontier"
        search = _renamed({"bids": by} | search)
        options = {name: search.pop(name) for name in SEARCH_OPTIONS if name in search}
        config["search"] = search | {"options": options}
    plan = {name: config.pop(name) for name in OF_PLAN if name in config}
    served = {name: config.pop(name) for name in ("logprobs",) if name in config}
    return content | served | {"config": {"plan": plan} | config}


def upgrade_line(line: Any) -> Any:
    """A line of `results.jsonl` in the present schema."""
    if "refused" not in line:
        return line
    return _renamed(line) | {name: _renamed(line.get(name)) for name in ("counts", "stage_two")}


def _renamed(fields: Any) -> Any:
    if not isinstance(fields, dict):
        return fields
    return {NEW_NAMES.get(name, name): _value(name, value) for name, value in fields.items()}


def _value(name: str, value: Any) -> Any:
    return NEW_VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
