"""`config.json`: the identity and the configuration of a run, typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from evals.records.files import StoreError, reported, write_whole
from evals.records.plan import Plan
from evals.records.schema import SCHEMA, upgrade_header

__all__ = [
    "CONFIG",
    "EagerFields",
    "RunHeader",
    "SamplingFields",
    "SearchFields",
    "StoredConfig",
    "differences",
    "read_header",
    "write_header",
]

CONFIG = "config.json"
FREE_TO_CHANGE = {"concurrency", "server"}
MAX_CHARACTERS = 60
COMPLAINT = re.compile(r"(?P<problem>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
MISSING = re.compile(r"Object missing required field `(.+)`")

Constant = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class SamplingFields:
    """Sampling, but for the temperature, which is swept."""

    top_p: float
    max_new_tokens: int
    stop_token_ids: tuple[int, ...]
    top_k: int | None = None


@dataclass(frozen=True, kw_only=True)
class EagerFields:
    """`eager_sgl.EagerConfig`, but for what is swept."""

    top_k: int
    entropy_temperature: float
    patience: int
    chunk_tokens: int
    monitor: str
    reasoning_end: str | None
    sampling: SamplingFields


@dataclass(frozen=True, kw_only=True)
class SearchFields:
    """The options of the searches.

    Attributes:
        width: maximum number of paths that are opened at once.
        stop: `--stop`; None for a search that nothing ends early.
        token_budget: tokens per prompt that the prompts share; None where they share none.
        bids: `--bids`, by which they share them; None without a budget.
        options: all others, by name.
    """

    width: int
    stop: str | None
    token_budget: int | None
    bids: str | None
    options: Mapping[str, Constant]


@dataclass(frozen=True, kw_only=True)
class StoredConfig:
    """The configuration of a run: `config` in `config.json`.

    Attributes:
        plan: the sweep.
        task: a name, or the path of a file of prompts.
        dataset: its source and, as `copy`, the file read instead; None for a task without a source.
        has_labels: whether the task has reference answers.
        preset: name and context of the model's preset; None without.
        chat_options: fields of the server's `/tokenize`.
        limit: maximum number of prompts; None for all.
        levels: those that prompts were chosen from; None for all.
        prompts_digest: of the ids and texts of the prompts, in their order.
        rules: the options of the second stages, by method and name.
        verifier: `module:function`; None leaves it to the labels.
        calibration: the content of the file that θ was read from; None without one.
        adaptive_quantile: of an adaptive θ; None where θ is fixed or the quantile follows from M.
        concurrency: prompts at a time.
        server: URL, or several with commas; None where the run starts its own.
        columns: the values of every token that sequences have; None without `--record`.
    """

    plan: Plan
    task: str
    dataset: Mapping[str, object] | None
    has_labels: bool
    preset: Mapping[str, object] | None
    chat_options: Mapping[str, object]
    limit: int | None
    levels: tuple[int, ...] | None
    prompts_digest: str
    eager: EagerFields
    search: SearchFields
    rules: Mapping[str, Mapping[str, int | float]]
    verifier: str | None
    calibration: Mapping[str, object] | None
    adaptive_quantile: float | None
    concurrency: int
    server: str | None
    columns: tuple[str, ...] | None = None

    @property
    def dataset_copy(self) -> str | None:
        """Path of the copy that the dataset was read from; None where it is the source itself."""
        copy = (self.dataset or {}).get("copy")
        return None if copy is None else str(copy)

    @property
    def chooses_prompts(self) -> tuple[object, ...]:
        """The fields that the prompts follow from."""
        return self.task, self.dataset, self.limit, self.levels, self.plan.seeds


@dataclass(frozen=True, kw_only=True)
class RunHeader:
    """The identity of a run: the content of `config.json`, and of `summary.json` before its rows.

    Attributes:
        schema: of the file; `to_json` writes the present one.
        model: path or hub id that the server states.
        model_digest: of the weights; None for a model that is not on this machine.
        logprobs: whether the server's logprobs are "tempered" or "raw".
        versions: of packages, Python and the platform.
    """

    schema: int = SCHEMA
    model: str
    model_digest: str | None
    logprobs: str
    versions: Mapping[str, str]
    config: StoredConfig

    def to_json(self) -> dict[str, object]:
        """With the task's name beside that of the model."""
        content: dict[str, object] = msgspec.to_builtins(replace(self, schema=SCHEMA))
        return {"schema": SCHEMA, "task": self.config.task} | content


def write_header(folder: Path, header: RunHeader) -> None:
    """Write `config.json`.

    Raises:
        StoreError: it cannot be written.
    """
    write_whole(folder / CONFIG, header.to_json())


def read_header(folder: Path) -> RunHeader:
    """The content of `config.json`, also of one in schema 1.

    Raises:
        StoreError: there is none, or a field is missing or of another type.
    """
    path = folder / CONFIG
    if not path.exists():
        raise StoreError(f"{folder} holds no run; give the folder of one")
    with reported(path):
        content = path.read_bytes()
    try:
        return _header(json.loads(content))
    except msgspec.ValidationError as error:
        reason = str(error)
    except ValueError:
        reason = "it is not JSON"
    raise StoreError(f"{path} is not the configuration of a run: {reason}")


def _header(content: Any) -> RunHeader:
    """A header from JSON; a ValidationError names the field and its value."""
    if isinstance(content, dict) and content.get("schema", SCHEMA) not in (1, SCHEMA):
        raise msgspec.ValidationError(
            f"its schema is {_shown(content['schema'])}, and this version reads 1 and {SCHEMA}; "
            "use the version that wrote it, or give another --output-dir"
        )
    content = upgrade_header(content)
    try:
        return msgspec.convert(content, RunHeader)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(_complaint(str(error), content)) from error


def _complaint(text: str, content: Any) -> str:
    """msgspec's complaint about JSON, with the value."""
    match = COMPLAINT.fullmatch(text)
    assert match is not None, text
    problem, path = match["problem"], match["path"] or ""
    name, parent = path or "the content", f"{path}." if path else ""
    if missing := MISSING.fullmatch(problem):
        return f"it has no {parent}{missing[1]}"
    return f"{name} is {_shown(_at(content, path))}: {problem[0].lower()}{problem[1:]}"


def _at(content: Any, path: str) -> Any:
    """The value at a path of msgspec's, or what holds it where the path has `[...]` for a name."""
    for step in re.findall(r"\w+", path.partition("[...]")[0]):
        content = content[int(step) if isinstance(content, list) else step]
    return content


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def differences(old: object, new: object) -> str:
    """The fields that differ between two values of one dataclass, as `name old → new`.

    The plan's fields are named as the command line names them. A field that an earlier version did
    not have equals one without a value.
    """
    before, after = (dict(_flat(msgspec.to_builtins(value))) for value in (old, new))
    names = [name for name in {**before, **after} if name not in FREE_TO_CHANGE]
    values = ((name, before.get(name, "absent"), after.get(name, "absent")) for name in names)
    return ", ".join(
        f"{name.removeprefix('plan.')} {old_value} → {new_value}"
        for name, old_value, new_value in values
        if old_value != new_value and {old_value, new_value} != {"absent", "none"}
    )


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field by its path, as text."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ",".join(map(str, value))
        else:
            yield f"{prefix}{name}", "none" if value is None else str(value)
