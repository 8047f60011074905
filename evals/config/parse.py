"""A command line of `evals/run.py`, checked before anything is started."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from eager_sgl.budget.reallocation import RULES, Reallocation
from eager_sgl.config import EagerConfig, SamplingConfig, SearchConfig
from eager_sgl.engine.addresses import (
    API_KEY_VARIABLE,
    require_key,
    require_seconds,
    require_url,
)
from evals.config.bidding import read_bids
from evals.config.command_line import FIRST_TASK, QUICKSTART, build_parser
from evals.config.defaults import NONE, Choices, choose_values, served_model
from evals.config.options import (
    read_names,
    read_priority,
    read_quantile,
    read_rules,
    read_thresholds,
    read_values,
    read_verifier,
)
from evals.config.settings import BUNDLED_MODEL, Settings
from evals.config.stopping import read_stop
from evals.records.files import StoreError
from evals.records.folder import read_config
from evals.records.plan import RESTART, RESUME, SEARCHES, STAGE_ONE, Plan
from evals.tasks import OWN_PROMPTS, Task, find_task

__all__ = ["parse_settings"]

NEEDS_LABELS = "eager"
MAX_WHOLE = 2**31 - 1
MAX_TRIES = 1000
PARALLEL_MARGIN = 1.5


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
    options.api_key = options.api_key or os.environ.get(API_KEY_VARIABLE)
    _require_servers(options)
    _require_amounts(options)
    folder = options.output_dir or QUICKSTART
    if options.regrade:
        _take_from_run(options, folder)
    task = find_task(options.task or FIRST_TASK, options.dataset)
    own_model = str(task.defaults.model or BUNDLED_MODEL)
    choices = choose_values(options, task, served_model(options, folder, own_model))
    limit = task.defaults.limit if options.limit is None else options.limit
    levels = options.levels and read_values("levels", options.levels, int)
    seeds = read_values("seeds", options.seeds, int)
    for seed in seeds:
        _require_range("seeds", seed, 0)
    starts_nothing = options.report_only or options.regrade
    samples = () if starts_nothing else tuple(task.load(limit, levels, seeds[0]))
    if not samples and not starts_nothing:
        raise ValueError(f"task {task.name} has no prompts")
    thresholds, calibration = read_thresholds(options.theta, choices.threshold)
    base = _base(options, task, choices, thresholds[0] or choices.threshold)
    model = options.model or own_model
    if calibration:
        calibration.check_config(base)
        if not options.server:
            calibration.check_model(model)
    names = read_names("method", options.methods, known_methods)
    if options.verifier is None and not starts_nothing:
        _require_labels(names, task)
    if None in thresholds:
        _require_one_stage(names, options.monitor)
    _require_search(options.stop, names)
    rules = read_rules(options)
    _require_thetas(rules, thresholds)
    bids = None if options.token_budget is None else read_bids(options.bids, task, names)
    if bids is None and options.bids is not None:
        raise ValueError(f"bids is {options.bids}, but nothing is shared; give a --token-budget")
    return Settings(
        task=task,
        plan=_plan(options, task, choices, names, thresholds, len(samples)),
        samples=samples,
        base=base,
        search=SearchConfig(
            width=options.width,
            max_tokens=options.max_tokens,
            top_k=base.top_k,
            reasoning_end=base.reasoning_end,
            sampling=base.sampling,
        ),
        priority=read_priority(options.priority),
        stop=read_stop(options.stop, task, has_verifier=options.verifier is not None),
        token_budget=options.token_budget,
        bids=bids,
        rules=rules,
        verifier=options.verifier and read_verifier(options.verifier, samples),
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
        regrade=options.regrade,
        server=options.server,
        router=options.router,
        model=model,
        request_timeout=options.request_timeout,
        silence_timeout=options.silence_timeout,
        api_key=options.api_key,
    )


def _take_from_run(options: argparse.Namespace, folder: Path) -> None:
    """What the command line leaves open of judging again is that of the run; no server is asked."""
    if options.report_only:
        raise ValueError("--regrade reports as well; leave --report-only out")
    try:
        config = read_config(folder)["config"]
        reasoning_end, data = config["eager"]["reasoning_end"], config["dataset"]
        task = str(config["task"])
    except StoreError as error:
        raise ValueError(str(error)) from error
    except KeyError as error:
        raise ValueError(f"{folder} was written by another version: no {error} in it") from error
    if options.task is None:
        options.task = task
        if options.dataset is None and not task.endswith(OWN_PROMPTS) and data and data["copy"]:
            options.dataset = Path(data["copy"])
    options.server = None
    if options.reasoning_end is None:
        options.reasoning_end = reasoning_end or NONE


def _plan(
    options: argparse.Namespace,
    task: Task,
    choices: Choices,
    methods: tuple[str, ...],
    thresholds: tuple[float | None, ...],
    num_prompts: int,
) -> Plan:
    max_sequences = read_values("max_sequences", options.max_sequences, int)
    for number in max_sequences:
        _require_range("max_sequences", number, -MAX_WHOLE)
    _require_one_budget(options.token_budget, methods, max_sequences)
    controls = options.control_temperatures
    return Plan(
        methods=methods,
        max_sequences=max_sequences,
        thresholds=thresholds,
        temperatures=read_values("temperature", choices.temperature, float),
        seeds=read_values("seeds", options.seeds, int),
        stage_twos=read_names("stage two", options.stage_two, (RESTART, RESUME)),
        parallel_sequences=(
            _parallel_sequences(max_sequences, methods)
            if options.parallel_sequences is None
            else options.parallel_sequences
        ),
        num_prompts=num_prompts,
        can_vote=task.can_vote,
        control_temperatures=(
            () if controls is None else read_values("control_temperatures", controls, float)
        ),
    )


def _require_amounts(options: argparse.Namespace) -> None:
    for name in ("request_timeout", "silence_timeout"):
        require_seconds(name, getattr(options, name))
    for name in ("limit", "concurrency"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    for name, value in vars(options).items():
        if isinstance(value, int):
            _require_range(name, value, -MAX_WHOLE)


def _require_range(name: str, value: int, least: int) -> None:
    """Whole numbers end up in 32 bits on the server; what is too small is told of elsewhere."""
    if not least <= value <= MAX_WHOLE:
        raise ValueError(f"{name} is {value}; it must be from {max(least, 0)} to {MAX_WHOLE}")


def _require_servers(options: argparse.Namespace) -> None:
    if options.server and options.model:
        raise ValueError("--model is of the server that is started; --server brings its own")
    if options.server:
        require_url(options.server)
        if options.api_key:
            require_key(options.api_key)
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
        raise ValueError(
            f"stop is {stop}, which ends searches; add one of {', '.join(SEARCHES)} to --methods"
        )


def _require_thetas(rules: Mapping[str, Reallocation], thresholds: Sequence[float | None]) -> None:
    """The last θ of a second stage is still above 0."""
    for rule in rules.values():
        if rule.max_tries > MAX_TRIES:
            raise ValueError(f"stage_two_tries is {rule.max_tries}; it must be at most {MAX_TRIES}")
        if any(theta and not rule.lowest_threshold(theta) for theta in thresholds):
            raise ValueError(
                f"stage_two_tries is {rule.max_tries}; at threshold_factor "
                f"{rule.threshold_factor:g} and late_factor {rule.late_factor:g}, θ falls to 0"
            )


def _require_one_stage(methods: Sequence[str], monitor: str) -> None:
    """What a adaptive θ needs."""
    if others := [name for name in methods if name in RULES]:
        raise ValueError(
            f"theta runs along, and {others[0]} needs one that is the same for all prompts; give "
            "numbers, or --methods eager_init"
        )
    if STAGE_ONE not in methods:
        raise ValueError(f"theta runs along, which is of {STAGE_ONE}; add it to --methods")
    if monitor == "gate":
        raise ValueError(
            "monitor is gate, which tells no entropy below θ; a adaptive θ needs chunk"
        )


def _require_one_budget(
    token_budget: int | None, methods: Sequence[str], max_sequences: Sequence[int]
) -> None:
    """What is shared is one run's: a smaller M would be spent by others, not a part of it."""
    if token_budget is None:
        return
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1")
    if not {*SEARCHES} & {*methods}:
        raise ValueError(f"token_budget is of {', '.join(SEARCHES)}; add one to --methods")
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
