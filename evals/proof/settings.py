"""How the run of a proof was set, and what it leaves open, from its summary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evals.proof.arguments import task_name
from evals.records.plan import PARALLEL, VOTE

__all__ = ["not_run", "public_settings", "settings_of"]

Settings = Mapping[str, Any]
SHOWN = ("preset", "chat_options", "limit", "levels", "prompts_digest", "eager", "search", "rules")
NOT_TUNED = (
    "A choice of settings: this command chose none. Whether they were chosen before, on other "
    "prompts or on these, this page cannot know."
)
OTHER_TEMPERATURES = (
    "Other temperatures than τ = {temperature:g}: the majority of parallel may be right more often "
    "at another one."
)
SECONDS = (
    "Repeats of the seconds: they are of one pass on a machine as it was, and methods that ran at "
    "the same time share them."
)


def public_settings(config: Settings) -> dict[str, Any]:
    """The settings of `config.json` without addresses and paths."""
    dataset = {key: value for key, value in (config["dataset"] or {}).items() if key != "copy"}
    chosen = {name: config[name] for name in (*SHOWN, "verifier", "concurrency", "plan")}
    return {"task": task_name(config["task"]), "dataset": dataset or None, **chosen}


def settings_of(summary: Settings) -> Iterator[tuple[str, str]]:
    """The lines of the page's table of settings: a name, and its value."""
    config = summary["config"]
    eager, search, plan = config["eager"], config["search"], config["plan"]
    sampling = eager["sampling"]
    yield "versions", ", ".join(f"{name} {text}" for name, text in summary["versions"].items())
    yield "prompts", _prompts(public_settings(config))
    yield (
        "sampling",
        f"τ = {_listed(plan['temperatures'])}, top-p {sampling['top_p']:g}, at most "
        f"{sampling['max_new_tokens']:,} tokens a sequence; reasoning ends with "
        f"{_code(eager['reasoning_end'])}; chat options {_code(config['chat_options'] or None)}",
    )
    yield "seeds", _listed(plan["seeds"])
    yield (
        "methods",
        f"M = {_listed(plan['max_sequences'])}, θ = {_listed(plan['thresholds'])} nats, "
        f"K = {eager['top_k']}, entropy at temperature {eager['entropy_temperature']:g}, patience "
        f"{eager['patience']:,}, width {search['width']}",
    )
    if VOTE in plan["methods"]:
        yield "vote", _vote(search["options"])
    yield "prompts at once", str(config["concurrency"])
    yield "logprobs of the server", summary["logprobs"]


def _prompts(settings: Settings) -> str:
    source = ", ".join(f"{key} {value}" for key, value in (settings["dataset"] or {}).items())
    levels = f", levels {_listed(settings['levels'])}" if settings["levels"] else ""
    number = settings["plan"]["num_prompts"]
    return (
        f"{number} of {settings['task']}{f' ({source})' if source else ''}, spread over its "
        f"levels{levels}; digest of their texts {settings['prompts_digest']}"
    )


def _vote(options: Settings) -> str:
    given = {name: value for name, value in options.items() if name.startswith(("vote_", "probe_"))}
    return ", ".join(f"{name} {_code(value)}" for name, value in given.items()) or "the defaults"


def not_run(summary: Settings, known_methods: Sequence[str]) -> Iterator[str]:
    """Sentences on what a reader might take for granted, and was not run.

    Args:
        known_methods: all that there are.
    """
    plan = summary["config"]["plan"]
    if others := [name for name in known_methods if name not in plan["methods"]]:
        yield f"Methods: {', '.join(others)}."
    if summary["num_failed"]:
        yield f"{summary['num_failed']:,} results, whose prompts failed; they are in no figure."
    if plan["num_prompts"] == summary["config"]["limit"]:
        yield (
            f"More than {plan['num_prompts']} prompts: their number follows from the tokens that "
            "were allowed, before any method but parallel had run."
        )
    if not plan["control_temperatures"]:
        yield OTHER_TEMPERATURES.format(temperature=plan["temperatures"][0])
    if len(plan["seeds"]) == 1:
        yield "Other seeds: the intervals are over prompts, and say nothing of another draw."
    if set(plan["methods"]) != {PARALLEL}:
        yield SECONDS
    yield NOT_TUNED


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(_text, values))


def _text(value: object) -> str:
    if value is None:
        return "auto"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _code(value: object) -> str:
    """As JSON."""
    if value is None:
        return "nothing"
    return f"`{json.dumps(value, ensure_ascii=False)}`"
