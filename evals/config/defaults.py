"""The values of a run that its command line leaves open: the model's preset, the task, defaults."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from eager_sgl import EagerConfig
from evals.config.presets import DEFAULT_THRESHOLD, Preset, find_preset, preset_for
from evals.config.readers import read_object, read_servers
from evals.records.files import StoreError
from evals.records.header import read_header
from evals.tasks import Task

__all__ = ["NO_REASONING", "OF_TASK", "Choices", "choose_values", "served_model"]

NO_REASONING = "none"
GIVEN, OF_PRESET, OF_TASK, BY_DEFAULT = "given", "preset", "task", "default"
Value = TypeVar("Value")


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
    chat_options: Mapping[str, object]

    def describe(self, model: str) -> str:
        """One line: the preset, and the origin of the values."""
        theta = f"θ = {self.threshold:g}"
        values = f"τ = {self.temperature}, top-p = {self.top_p:g}"
        if self.threshold_origin == GIVEN:
            theta = "θ as given"
        elif self.threshold_origin == OF_PRESET and self.preset:
            theta += f" ({self.preset.threshold_source}; evals/calibrate.py chooses one)"
        elif self.threshold_origin == BY_DEFAULT:
            theta += " (a default that is calibrated for no model; evals/calibrate.py chooses one)"
        preset = f"preset {self.preset.name}" if self.preset else f"no preset for {model}"
        return f"{preset}: {values}, {theta}"


def choose_values(options: argparse.Namespace, task: Task, model: str | None) -> Choices:
    """The command line comes before the preset, that before the task, the task before defaults.

    Args:
        model: name or path; None where it is not known.

    Raises:
        ValueError: an unknown preset, or chat options that are not a JSON object.
    """
    preset = find_preset(options.preset) if options.preset else preset_for(model or "")
    default, limit = EagerConfig(threshold=1.0), task.defaults.max_new_tokens
    sampling = default.sampling
    threshold, origin = _threshold(options, preset, task)
    return Choices(
        preset=preset,
        threshold=threshold,
        threshold_origin=origin,
        temperature=options.temperature
        or str(preset.temperature if preset else sampling.temperature),
        top_p=_given(options.top_p, preset.top_p if preset else sampling.top_p),
        max_new_tokens=_given(
            options.max_new_tokens, min(limit, preset.context) if preset else limit
        ),
        reasoning_end=_reasoning_end(options.reasoning_end, preset or default),
        chat_options=(
            (preset.chat_options if preset else {})
            if options.chat_options is None
            else read_object("--chat-options", options.chat_options)
        ),
    )


def _given(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def _threshold(options: argparse.Namespace, preset: Preset | None, task: Task) -> tuple[float, str]:
    of_task = task.defaults.threshold
    if options.theta is not None:
        return of_task or DEFAULT_THRESHOLD, GIVEN
    if preset is not None:
        return preset.threshold, OF_PRESET
    return (DEFAULT_THRESHOLD, BY_DEFAULT) if of_task is None else (of_task, OF_TASK)


def _reasoning_end(given: str | None, default: Preset | EagerConfig) -> str | None:
    return None if given == NO_REASONING else _given(given, default.reasoning_end)


def served_model(options: argparse.Namespace, folder: Path, bundled: str) -> str | None:
    """The model of a run, before anything is started; None if it is not known yet.

    A server is asked for its model; if it does not answer, the model is that of `config.json`.

    Args:
        folder: of the run.
        bundled: the model that is started if the command line names neither model nor server.
    """
    if not options.server:
        return str(options.model or bundled)
    if not options.report_only:
        for url in read_servers(options.server):
            model = _ask(url, options.api_key)
            if model is not None:
                return model
    try:
        return read_header(folder).model
    except StoreError:
        return None


def _ask(url: str, api_key: str | None) -> str | None:
    """The model of a server; None if there is no answer, which is an error later if it matters."""
    from eager_sgl import ServerError
    from eager_sgl.engine import limits, loop, probe
    from eager_sgl.engine.transport import Transport

    async def ask() -> str:
        transport = Transport(url, api_key=api_key)
        try:
            return await probe.served_model(transport, limits.ONCE)
        finally:
            await transport.aclose()

    try:
        return loop.run(ask())
    except (ServerError, ValueError):
        return None
