"""What a run takes from the model's preset where its command line is silent."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eager_sgl.config import EagerConfig
from evals.config.presets import DEFAULT_THRESHOLD, Preset, find_preset, preset_for
from evals.records.files import StoreError
from evals.tasks import Task

__all__ = ["NONE", "OF_TASK", "Choices", "choose_values", "served_model"]

NONE = "none"
GIVEN, OF_PRESET, OF_TASK, BY_DEFAULT = "given", "preset", "task", "default"


@dataclass(frozen=True)
class Choices:
    """Values for what the command line left open.

    Attributes:
        preset: of the model; None where there is none.
        threshold: θ in nats.
        threshold_origin: "given" on the command line, or of the "preset", the "task", or "default".
        temperature: τ, as on the command line.
        top_p: nucleus mass.
        max_new_tokens: length limit of a sequence.
        reasoning_end: the text that closes the reasoning; None where nothing does.
        chat_options: how the server renders chat messages.
    """

    preset: Preset | None
    threshold: float
    threshold_origin: str
    temperature: str
    top_p: float
    max_new_tokens: int
    reasoning_end: str | None
    chat_options: Mapping[str, Any]

    def describe(self, model: str) -> str:
        """One line on what the run takes from where."""
        theta = f"θ = {self.threshold:g}"
        values = f"τ = {self.temperature}, top-p = {self.top_p:g}"
        if self.threshold_origin == GIVEN:
            theta = "θ as given"
        elif self.threshold_origin == OF_PRESET and self.preset:
            theta += f" ({self.preset.threshold_source}; evals/calibrate.py chooses one)"
        elif self.threshold_origin == BY_DEFAULT:
            theta += " (a default, calibrated for nothing; evals/calibrate.py chooses one)"
        which = f"preset {self.preset.name}" if self.preset else f"no preset for {model}"
        return f"{which}: {values}, {theta}"


def choose_values(options: argparse.Namespace, task: Task, model: str | None) -> Choices:
    """The command line before the preset, the preset before the task, the task before defaults.

    Args:
        options: of the command line.
        task: what is run.
        model: name or path; None where it is not known.

    Raises:
        ValueError: an unknown preset, or options that are no JSON object.
    """
    preset = find_preset(options.preset) if options.preset else preset_for(model or "")
    defaults, sampling = task.defaults, EagerConfig(threshold=1.0).sampling
    threshold, origin = _threshold(options, preset, task)
    longest = defaults.max_new_tokens
    return Choices(
        preset=preset,
        threshold=threshold,
        threshold_origin=origin,
        temperature=options.temperature
        or str(preset.temperature if preset else sampling.temperature),
        top_p=_first(options.top_p, preset and preset.top_p, sampling.top_p),
        max_new_tokens=_first(
            options.max_new_tokens, preset and min(longest, preset.context), longest
        ),
        reasoning_end=_reasoning_end(options.reasoning_end, preset),
        chat_options=_chat_options(options.chat_options, preset),
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _threshold(options: argparse.Namespace, preset: Preset | None, task: Task) -> tuple[float, str]:
    own = task.defaults.threshold
    if options.theta is not None:
        return own or DEFAULT_THRESHOLD, GIVEN
    if preset is not None:
        return preset.threshold, OF_PRESET
    return (own, OF_TASK) if own is not None else (DEFAULT_THRESHOLD, BY_DEFAULT)


def _reasoning_end(given: str | None, preset: Preset | None) -> str | None:
    if given is not None:
        return None if given == NONE else given
    return preset.reasoning_end if preset else EagerConfig(threshold=1.0).reasoning_end


def _chat_options(given: str | None, preset: Preset | None) -> Mapping[str, Any]:
    if given is None:
        return preset.chat_options if preset else {}
    try:
        options = json.loads(given)
    except ValueError as error:
        raise ValueError(f"chat_options is {given!r}, no JSON: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"chat_options is {given!r}; it must be an object in braces")
    return options


def served_model(options: argparse.Namespace, folder: Path, bundled: str) -> str | None:
    """What the model of a run will be, before anything is started.

    A server is asked for its model; where it does not answer, what `config.json` says of an earlier
    session stands in, and where there is none, nothing is known yet.

    Args:
        options: of the command line.
        folder: of the run.
        bundled: the model that is started where the command line names neither model nor server.
    """
    if not options.server:
        return str(options.model or bundled)
    if not options.report_only:
        model = _ask(options.server, options.api_key)
        if model is not None:
            return model
    from evals.records.folder import read_config

    try:
        return str(read_config(folder)["model"])
    except StoreError:
        return None


def _ask(server: str, api_key: str | None) -> str | None:
    """The model of a server; None if there is no answer, which is an error later if it matters."""
    from eager_sgl.engine import limits, probe
    from eager_sgl.engine.transport import Transport
    from eager_sgl.errors import ServerError

    try:
        return probe.served_model(Transport(server, api_key=api_key), limits.ONCE)
    except (ServerError, ValueError):
        return None
