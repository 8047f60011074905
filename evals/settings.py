"""A command line of `evals/run.py`, checked and complete before anything is started."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_sgl.core import EagerConfig, SamplingConfig, SearchConfig
from eager_sgl.reallocation import RULES, Reallocation
from eager_sgl.wire import require_url
from evals.calibration import Calibration
from evals.command_line import API_KEY_VARIABLE, QUICKSTART, build_parser
from evals.defaults import OF_TASK, Choices, choose_values, served_model
from evals.identity import weights_digest
from evals.options import (
    TextVerifier,
    read_names,
    read_priority,
    read_quantile,
    read_rules,
    read_thresholds,
    read_values,
    read_verifier,
)
from evals.plan import BEST_FIRST, RESTART, RESUME, SEARCHES, STAGE_ONE, SWEPT, Cell, Plan
from evals.stopping import StopOption, read_stop
from evals.tasks import Sample, Task, find_task

if TYPE_CHECKING:
    from eager_sgl.probe import ServerProfile

__all__ = ["BUNDLED_MODEL", "SCHEMA", "Settings", "parse_settings"]

SCHEMA = 1
BUNDLED_MODEL = Path(__file__).parent / "reasoner" / "model"
NEEDS_LABELS = "eager"
PARALLEL_MARGIN = 1.5

SEARCH_FIELDS = ("priority", "width", "max_tokens")
RULE_FIELDS = ("max_extra_factor", "threshold_factor", "max_tries", "late_factor")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run.

    Attributes:
        plan: what is swept.
        samples: the prompts, the same for every cell.
        base: the method; θ, M and τ are those of a cell.
        search: the searches; order, M and τ are those of a cell.
        stop: ends a search early; None for never.
        token_budget: tokens per prompt that the prompts of best-first share; None if they do not.
        rules: of the methods of two stages, by name.
        verifier: says of a sequence's text whether it is correct; None leaves that to the labels.
        verifier_name: as on the command line.
        calibration: of θ, where it comes from a file.
        quantile: of the running θ; None where it follows from M.
        choices: what was taken from the model's preset or from defaults.
        may_run_code: whether programs that the model wrote may be run.
        limit: most prompts; None for all.
        levels: those that prompts were chosen from; None for all.
        concurrency: prompts that run at the same time.
        set_aside: whether a complete run of another configuration in the output folder is
            renamed, not refused.
        report_only: whether to report on what the output folder holds, and do no more.
        server: URL of an existing server; None starts one.
        router: URL of the router before several servers, of which `server` is one.
        model: of the server that is started: a folder or a hub id.
        timeout: seconds to wait for the answer to any one request.
        api_key: never written anywhere.
    """

    task: Task
    plan: Plan
    samples: tuple[Sample, ...]
    base: EagerConfig
    search: SearchConfig
    stop: StopOption | None
    token_budget: int | None
    rules: Mapping[str, Reallocation]
    verifier: TextVerifier | None
    verifier_name: str | None
    calibration: Calibration | None
    quantile: float | None
    choices: Choices
    may_run_code: bool
    limit: int | None
    levels: tuple[int, ...] | None
    concurrency: int
    output_dir: Path
    set_aside: bool
    report_only: bool
    server: str | None
    router: str | None
    model: str
    timeout: float
    api_key: str | None

    def config(self, cell: Cell) -> EagerConfig:
        """The method in one cell; where it has no fixed θ, it keeps the base's."""
        threshold = self.base.threshold if cell.threshold is None else cell.threshold
        return replace(
            self.base,
            max_sequences=cell.max_sequences,
            threshold=threshold,
            refused_threshold=self._refused_threshold(threshold),
            sampling=replace(self.base.sampling, temperature=cell.temperature),
        )

    def search_config(self, cell: Cell) -> SearchConfig:
        """The search in one cell."""
        return replace(
            self.search,
            order=cell.method,  # type: ignore[arg-type]
            max_sequences=cell.max_sequences,
            seed=cell.seed,
            sampling=replace(self.search.sampling, temperature=cell.temperature),
        )

    def shared_tokens(self, cell: Cell) -> int | None:
        """Generated tokens that the prompts of a cell share; None where each has its own M."""
        if self.token_budget is None or cell.method != BEST_FIRST:
            return None
        return self.token_budget * len(self.samples)

    def _refused_threshold(self, threshold: float) -> float | None:
        """The lowest entropy of a branch that any rule may resume at."""
        names = [name for name in self.plan.methods if name in self.rules]
        if RESUME not in self.plan.stage_twos or not names:
            return None
        return min(self.rules[name].lowest_threshold(threshold) for name in names)

    def theta_is_foreign(self, model_path: str) -> bool:
        """Whether the task's own θ is used for what it was not calibrated for."""
        own = EagerConfig(threshold=1.0)
        is_own = (
            self.base.top_k,
            self.base.entropy_temperature,
            weights_digest(model_path),
        ) == (
            own.top_k,
            own.entropy_temperature,
            weights_digest(str(self.task.defaults.model or BUNDLED_MODEL)),
        )
        return self.choices.threshold_origin == OF_TASK and not is_own

    def to_json(self) -> dict[str, Any]:
        """What `config.json` and `summary.json` tell of the run."""
        eager = asdict(self.base)
        del eager["threshold"], eager["max_sequences"], eager["sampling"]["temperature"]
        del eager["refused_threshold"]
        rules = {
            name: {field: getattr(rule, field) for field in RULE_FIELDS}
            for name, rule in self.rules.items()
        }
        return {
            **{name: list(getattr(self.plan, name)) for name in SWEPT},
            "parallel_sequences": self.plan.parallel_sequences,
            "task": self.task.name,
            "dataset": self.task.to_json(),
            "can_vote": self.task.can_vote,
            "has_labels": self.task.has_labels,
            "preset": self.choices.preset.to_json() if self.choices.preset else None,
            "chat_options": dict(self.choices.chat_options),
            "limit": self.limit,
            "levels": list(self.levels) if self.levels else None,
            "num_prompts": len(self.samples),
            "prompts": _digest(self.samples),
            "eager": eager,
            "search": {
                **{name: getattr(self.search, name) for name in SEARCH_FIELDS},
                "stop": str(self.stop) if self.stop else None,
                "token_budget": self.token_budget,
            },
            "rules": rules,
            "verifier": self.verifier_name,
            "calibration": asdict(self.calibration) if self.calibration else None,
            "concurrency": self.concurrency,
            "server": self.server,
            **self._seldom_set(),
        }

    def _seldom_set(self) -> dict[str, Any]:
        """Only where it means something, so that other runs go on as those of earlier versions."""
        controls, plan = self.plan.control_temperatures, self.plan
        return {
            **({"control_temperatures": list(controls)} if controls else {}),
            **({"running_quantile": self.quantile} if None in plan.thresholds else {}),
        }

    def header(self, profile: ServerProfile) -> dict[str, Any]:
        """The content of `config.json`, and of `summary.json` before its rows."""
        return {
            "schema": SCHEMA,
            "task": self.task.name,
            "model": profile.model_path,
            "model_digest": weights_digest(profile.model_path),
            "versions": _versions() | {"server_sglang": profile.version},
            "config": self.to_json() | {"logprobs": profile.logprobs},
        }


def _digest(samples: Sequence[Sample]) -> str:
    """Differs where any prompt does."""
    prompts = json.dumps([[sample.id, sample.prompt] for sample in samples])
    return hashlib.sha256(prompts.encode()).hexdigest()[:16]


def parse_settings(arguments: Sequence[str] | None, methods: Sequence[str]) -> Settings:
    """The settings of a command line; a wrong one exits with code 2 and one sentence.

    Args:
        arguments: None takes those of the process.
        methods: the names that there are.
    """
    parser = build_parser(methods)
    options = parser.parse_args(arguments)
    try:
        settings = _settings(options, methods)
        for cell in settings.plan.cells:
            settings.config(cell)
        return settings
    except ValueError as error:
        parser.error(str(error))


def _settings(options: argparse.Namespace, known_methods: Sequence[str]) -> Settings:
    _require_servers(options)
    if options.timeout <= 0:
        raise ValueError(f"timeout is {options.timeout:g}; it must be above 0 seconds")
    for name in ("limit", "concurrency"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    options.api_key = options.api_key or os.environ.get(API_KEY_VARIABLE)
    task = find_task(options.task, options.dataset)
    folder = options.output_dir or QUICKSTART
    own_model = str(task.defaults.model or BUNDLED_MODEL)
    choices = choose_values(options, task, served_model(options, folder, own_model))
    limit = task.defaults.limit if options.limit is None else options.limit
    levels = options.levels and read_values("levels", options.levels, int)
    seeds = read_values("seeds", options.seeds, int)
    samples = () if options.report_only else tuple(task.load(limit, levels, seeds[0]))
    if not samples and not options.report_only:
        raise ValueError(f"task {task.name} has no prompts")
    thresholds, calibration = read_thresholds(options.theta, choices.threshold)
    base = _base(options, task, choices, thresholds[0] or choices.threshold)
    model = options.model or own_model
    if calibration:
        calibration.check_config(base)
        if not options.server:
            calibration.check_model(model)
    names = read_names("method", options.methods, known_methods)
    if options.verifier is None:
        _require_labels(names, task)
    if None in thresholds:
        _require_one_stage(names, options.monitor)
    _require_search(options.stop, names)
    max_sequences = read_values("max_sequences", options.max_sequences, int)
    _require_one_budget(options.token_budget, names, max_sequences)
    plan = Plan(
        methods=names,
        max_sequences=max_sequences,
        thresholds=thresholds,
        temperatures=read_values("temperature", choices.temperature, float),
        seeds=seeds,
        stage_twos=read_names("stage two", options.stage_two, (RESTART, RESUME)),
        parallel_sequences=(
            _parallel_sequences(max_sequences, names)
            if options.parallel_sequences is None
            else options.parallel_sequences
        ),
        num_prompts=len(samples),
        can_vote=task.can_vote,
        control_temperatures=(
            read_values("control_temperatures", options.control_temperatures, float)
            if options.control_temperatures
            else ()
        ),
    )
    return Settings(
        task=task,
        plan=plan,
        samples=samples,
        base=base,
        search=SearchConfig(
            priority=read_priority(options.priority),
            width=options.width,
            max_tokens=options.max_tokens,
            top_k=base.top_k,
            reasoning_end=base.reasoning_end,
            sampling=base.sampling,
        ),
        stop=read_stop(options.stop, task, has_verifier=options.verifier is not None),
        token_budget=options.token_budget,
        rules=read_rules(options),
        verifier=options.verifier and read_verifier(options.verifier),
        verifier_name=options.verifier,
        calibration=calibration,
        quantile=read_quantile(options.theta),
        choices=choices,
        may_run_code=options.allow_code_execution,
        limit=limit,
        levels=levels,
        concurrency=options.concurrency,
        output_dir=folder,
        set_aside=options.output_dir is None,
        report_only=options.report_only,
        server=options.server,
        router=options.router,
        model=model,
        timeout=options.timeout,
        api_key=options.api_key,
    )


def _require_servers(options: argparse.Namespace) -> None:
    if options.server and options.model:
        raise ValueError("--model is of the server that is started; --server brings its own")
    if options.server:
        require_url(options.server)
    if options.router:
        require_url(options.router)
        if not options.server:
            raise ValueError("--router needs --server, the URL of one of its replicas")


def _require_labels(methods: Sequence[str], task: Task) -> None:
    if NEEDS_LABELS in methods and not task.has_labels:
        others = ",".join(name for name in methods if name != NEEDS_LABELS)
        raise ValueError(
            f"{NEEDS_LABELS} needs reference answers, and {task.name} has none; give --methods "
            f"{others or 'eager_init'}"
        )


def _require_search(stop: str, methods: Sequence[str]) -> None:
    if stop != "none" and not set(methods) & set(SEARCHES):
        raise ValueError(f"stop is {stop}, which ends searches; add {BEST_FIRST} to --methods")


def _require_one_stage(methods: Sequence[str], monitor: str) -> None:
    """What a running θ needs."""
    if others := [name for name in methods if name in RULES]:
        raise ValueError(
            f"theta runs along, and {others[0]} needs one that is the same for all prompts; give "
            "numbers, or --methods eager_init"
        )
    if STAGE_ONE not in methods:
        raise ValueError(f"theta runs along, which is of {STAGE_ONE}; add it to --methods")
    if monitor == "gate":
        raise ValueError("monitor is gate, which tells no entropy below θ; a running θ needs chunk")


def _require_one_budget(
    token_budget: int | None, methods: Sequence[str], max_sequences: Sequence[int]
) -> None:
    """What is shared is one run's: a smaller M would be spent by others, not a part of it."""
    if token_budget is None:
        return
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1")
    if BEST_FIRST not in methods:
        raise ValueError(f"token_budget is of {BEST_FIRST}; add it to --methods")
    if len(max_sequences) > 1:
        raise ValueError(
            f"token_budget is shared at one M; give --max-sequences {max(max_sequences)}"
        )


def _parallel_sequences(max_sequences: Sequence[int], methods: Sequence[str]) -> int:
    most = max(max_sequences)
    return math.ceil(PARALLEL_MARGIN * most) if any(name in RULES for name in methods) else most


def _base(
    options: argparse.Namespace, task: Task, choices: Choices, threshold: float
) -> EagerConfig:
    return EagerConfig(
        threshold=threshold,
        top_k=options.top_k,
        entropy_temperature=options.entropy_temperature,
        patience=options.patience,
        monitor=options.monitor,
        chunk_tokens=(
            task.defaults.chunk_tokens if options.chunk_tokens is None else options.chunk_tokens
        ),
        reasoning_end=choices.reasoning_end,
        sampling=SamplingConfig(top_p=choices.top_p, max_new_tokens=choices.max_new_tokens),
    )


def _versions() -> dict[str, str]:
    """Of what the results depend on, on this machine."""
    installed = {name: version(name) for name in ("eager_sgl", "sglang", "torch")}
    return installed | {"python": platform.python_version(), "platform": platform.platform()}
