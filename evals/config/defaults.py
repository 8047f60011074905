"""The values of a run that its command line leaves open: the model's preset, the task, defaults."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from eager_sgl import EagerConfig
from evals.config.presets import DEFAULT_THRESHOLD, Preset, find_preset, preset_for
from evals.config.readers import read_object, read_servers
from evals.config.reasoning import (
    THINK_END,
    ReasoningEnd,
    end_in,
    end_of_served,
    found_end,
    template_of,
)
from evals.records.files import StoreError
from evals.records.header import read_header
from evals.tasks import Task

if TYPE_CHECKING:
    from eager_sgl.engine.transport import Transport

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
        reasoning: the text that closes the reasoning.
        chat_options: how the server renders chat messages.
    """

    preset: Preset | None
    threshold: float
    threshold_origin: str
    temperature: str
    top_p: float
    max_new_tokens: int
    reasoning: ReasoningEnd
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


def choose_values(
    options: argparse.Namespace, task: Task, model: str | None, folder: Path | None = None
) -> Choices:
    """The command line comes before the preset, that before the task, the task before defaults.

    Args:
        model: name or path; None where it is not known.
        folder: of the run.

    Raises:
        ValueError: an unknown preset, or chat options that are not a JSON object.
    """
    preset = find_preset(options.preset) if options.preset else preset_for(model or "")
    default, limit = EagerConfig(threshold=1.0), task.defaults.max_new_tokens
    sampling = default.sampling
    threshold, origin = _threshold(options, preset, task)
    chat_options: Mapping[str, object] = preset.chat_options if preset else {}
    if options.chat_options is not None:
        chat_options = read_object("--chat-options", options.chat_options)
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
        reasoning=_reasoning(options, preset, model, folder, chat_options),
        chat_options=chat_options,
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


def _reasoning(
    options: argparse.Namespace,
    preset: Preset | None,
    model: str | None,
    folder: Path | None,
    chat_options: Mapping[str, object],
) -> ReasoningEnd:
    """The end of reasoning: as given, the preset's, by the chat template, or as in the run so far.

    Without any of these it is `</think>`: of a model without reasoning, the whole text is judged
    all the same.
    """
    if options.reasoning_end is not None:
        return ReasoningEnd(
            None if options.reasoning_end == NO_REASONING else options.reasoning_end
        )
    if preset is not None or model is None or options.report_only:
        return ReasoningEnd(preset.reasoning_end if preset else THINK_END)
    if not options.server:
        template = template_of(model)
        return ReasoningEnd(THINK_END) if template is None else found_end(end_in(template), model)
    for url in read_servers(options.server):
        found = _ask(url, options.api_key, lambda to: _rendered_end(to, model, chat_options))
        if found is not None:
            return found
    return ReasoningEnd(_stored_end(folder))


async def _rendered_end(
    transport: Transport, model: str, chat_options: Mapping[str, object]
) -> ReasoningEnd:
    return found_end(await end_of_served(transport, chat_options), model)


def _stored_end(folder: Path | None) -> str | None:
    try:
        return read_header(folder).config.eager.reasoning_end if folder else THINK_END
    except StoreError:
        return THINK_END


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
            model = _ask(url, options.api_key, _model_of)
            if model is not None:
                return model
    try:
        return read_header(folder).model
    except StoreError:
        return None


async def _model_of(transport: Transport) -> str:
    from eager_sgl.engine import limits, probe

    return await probe.served_model(transport, limits.ONCE)


def _ask(
    url: str, key: str | None, question: Callable[[Transport], Awaitable[Value]]
) -> Value | None:
    """A server's answer; None if there is none, which is an error later if it matters."""
    from eager_sgl import ServerError
    from eager_sgl.engine import loop
    from eager_sgl.engine.transport import Transport

    async def ask() -> Value:
        transport = Transport(url, api_key=key)
        try:
            return await question(transport)
        finally:
            await transport.aclose()

    try:
        return loop.run(ask())
    except (ServerError, ValueError):
        return None
