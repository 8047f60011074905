"""A command line of `evals/run.py` as `Settings`, checked before anything is started."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

from eager_sgl import RULES, EagerConfig, Probing, Reallocation, SamplingConfig
from eager_sgl.engine.addresses import API_KEY_VARIABLE
from evals.config.bidding import read_bids
from evals.config.calibration import Calibration
from evals.config.checks import (
    MAX_WHOLE,
    require_adaptive_fits,
    require_amounts,
    require_labels,
    require_positive_thetas,
    require_probed,
    require_range,
    require_recordable,
    require_search,
    require_servers,
    require_shared_budget,
    require_single_mode,
    require_votes,
    require_voting,
)
from evals.config.command_line import AUTO, EAGER, FIRST_TASK, PROBING, QUICKSTART, SEARCH
from evals.config.defaults import NO_REASONING, Choices, choose_values, served_model
from evals.config.parser import build_parser, configured, in_options
from evals.config.readers import (
    read_caps,
    read_names,
    read_priority,
    read_quantile,
    read_servers,
    read_thresholds,
    read_values,
    read_verifier,
)
from evals.config.settings import BUNDLED_MODEL, Experiment, ServerSettings, Settings
from evals.config.stopping import read_stop
from evals.config.voting import VoteOptions
from evals.records.files import StoreError
from evals.records.header import read_header
from evals.records.plan import EARLY_EXIT, RESTART, RESUME, Plan
from evals.tasks import PROMPT_FILE, Sample, Task, find_task

__all__ = ["parse_settings"]

PARALLEL_MARGIN = 1.5


def parse_settings(arguments: Sequence[str] | None, methods: Sequence[str]) -> Settings:
    """The settings of a command line; a wrong one exits with code 2 and one sentence.

    Args:
        arguments: None takes those of the process.
        methods: all names.
    """
    parser = build_parser(methods)
    options = parser.parse_args(arguments)
    try:
        settings = _settings(options, methods)
        for cell in settings.plan.cells:
            settings.experiment.config(cell)
        return settings
    except ValueError as error:
        parser.error(in_options(str(error)))


def _settings(options: argparse.Namespace, known_methods: Sequence[str]) -> Settings:
    options.api_key = options.api_key or os.environ.get(API_KEY_VARIABLE)
    require_single_mode(options)
    require_servers(options)
    require_amounts(options)
    folder = options.output_dir or QUICKSTART
    if options.regrade or options.replay:
        options.server = None
    if options.regrade:
        _take_from_run(options, folder)
    task = find_task(options.task or FIRST_TASK, options.dataset)
    model = str(task.defaults.model or BUNDLED_MODEL)
    choices = choose_values(options, task, served_model(options, folder, model), folder)
    server = _server(options, model, choices)
    limit = task.defaults.limit if options.limit is None else options.limit
    levels = options.levels and read_values("--levels", options.levels, int)
    samples = _samples(options, task, limit, levels)
    thresholds, calibration = read_thresholds(options.theta, choices.threshold)
    base = _base(options, task, choices, thresholds[0] or choices.threshold)
    if calibration:
        _require_calibrated(calibration, base, server)
    methods = read_names("--methods", "method", options.methods, known_methods)
    plan = _plan(options, task, choices, methods, thresholds, len(samples))
    return Settings(
        experiment=_experiment(options, task, plan, samples, base),
        server=server,
        choices=choices,
        calibration=calibration,
        verifier_name=options.verifier,
        limit=limit,
        levels=levels,
        may_run_code=options.allow_code_execution,
        output_dir=folder,
        set_aside=options.output_dir is None,
        report_only=options.report_only,
        regrade=options.regrade,
        replay=options.replay,
    )


def _take_from_run(options: argparse.Namespace, folder: Path) -> None:
    """Judging again takes options that are not given from the run."""
    try:
        config = read_header(folder).config
    except StoreError as error:
        raise ValueError(str(error)) from error
    if options.task is None:
        options.task, copy = config.task, config.dataset_copy
        if options.dataset is None and not config.task.endswith(PROMPT_FILE) and copy:
            options.dataset = Path(copy)
    if options.reasoning_end is None:
        options.reasoning_end = config.eager.reasoning_end or NO_REASONING


def _server(options: argparse.Namespace, model: str, choices: Choices) -> ServerSettings:
    return ServerSettings(
        urls=read_servers(options.server),
        router=options.router,
        model=options.model or model,
        api_key=options.api_key,
        request_timeout=options.request_timeout,
        silence_timeout=options.silence_timeout,
        chat_options=choices.chat_options,
        gate=options.gate,
    )


def _generates(options: argparse.Namespace) -> bool:
    return not (options.report_only or options.regrade or options.replay)


def _samples(
    options: argparse.Namespace, task: Task, limit: int | None, levels: tuple[int, ...] | None
) -> tuple[Sample, ...]:
    """The prompts; none for a run that generates nothing."""
    seeds = read_values("--seeds", options.seeds, int)
    for seed in seeds:
        require_range("--seeds", seed)
    if not _generates(options):
        return ()
    samples = tuple(task.load(limit, levels, seeds[0]))
    if not samples:
        raise ValueError(f"task {task.name} has no prompts")
    return samples


def _base(
    options: argparse.Namespace, task: Task, choices: Choices, threshold: float
) -> EagerConfig:
    chunk_tokens = options.chunk_tokens
    return configured(
        EAGER,
        options,
        threshold=threshold,
        chunk_tokens=task.defaults.chunk_tokens if chunk_tokens is None else chunk_tokens,
        reasoning_end=choices.reasoning.text,
        sampling=SamplingConfig(top_p=choices.top_p, max_new_tokens=choices.max_new_tokens),
    )


def _require_calibrated(
    calibration: Calibration, base: EagerConfig, server: ServerSettings
) -> None:
    calibration.check_config(base)
    if not server.urls:
        calibration.check_model(server.model)


def _plan(
    options: argparse.Namespace,
    task: Task,
    choices: Choices,
    methods: tuple[str, ...],
    thresholds: tuple[float | None, ...],
    num_prompts: int,
) -> Plan:
    max_sequences = read_values("--max-sequences", options.max_sequences, int)
    for number in max_sequences:
        require_range("--max-sequences", number, -MAX_WHOLE)
    parallel, controls = options.parallel_sequences, options.control_temperatures
    return Plan(
        methods=methods,
        max_sequences=max_sequences,
        thresholds=thresholds,
        temperatures=read_values("--temperature", choices.temperature, float),
        seeds=read_values("--seeds", options.seeds, int),
        stage_twos=read_names("--stage-two", "stage two", options.stage_two, (RESTART, RESUME)),
        parallel_sequences=_for_curve(max_sequences, methods) if parallel is None else parallel,
        num_prompts=num_prompts,
        can_vote=task.can_vote,
        control_temperatures=(
            () if controls is None else read_values("--control-temperatures", controls, float)
        ),
    )


def _for_curve(max_sequences: Sequence[int], methods: Sequence[str]) -> int:
    """Sequences of Full Parallel, so that its curve reaches as many tokens as the methods."""
    largest = max(max_sequences)
    is_reached = not any(name in RULES for name in methods)
    return largest if is_reached else math.ceil(PARALLEL_MARGIN * largest)


def _experiment(
    options: argparse.Namespace,
    task: Task,
    plan: Plan,
    samples: tuple[Sample, ...],
    base: EagerConfig,
) -> Experiment:
    _require_fitting(options, task, plan)
    has_verifier, rules = options.verifier is not None, _rules(options)
    require_positive_thetas(rules, plan.thresholds)
    return Experiment(
        task=task,
        plan=plan,
        samples=samples,
        base=base,
        search=configured(
            SEARCH,
            options,
            top_k=base.top_k,
            monitor=base.monitor,
            reasoning_end=base.reasoning_end,
            sampling=base.sampling,
        ),
        priority=read_priority(options.priority),
        stop=read_stop(options.stop, task, has_verifier=has_verifier),
        token_budget=options.token_budget,
        bids=_bids(options, task, plan.methods),
        rules=rules,
        verifier=read_verifier(options.verifier, samples) if has_verifier else None,
        quantile=read_quantile(options.theta),
        concurrency=options.concurrency,
        records=options.record,
        probing=_probing(options, task, plan.methods, base.reasoning_end),
        voting=_voting(options, task, plan),
    )


def _require_fitting(options: argparse.Namespace, task: Task, plan: Plan) -> None:
    """The methods fit the task and the other options."""
    if options.verifier is None and _generates(options):
        require_labels(plan.methods, task)
    if None in plan.thresholds:
        require_adaptive_fits(plan.methods)
    require_search(options.stop, plan.methods)
    require_recordable(plan.methods, is_recorded=options.record)
    require_shared_budget(options.token_budget, plan.methods, plan.max_sequences)


def _voting(options: argparse.Namespace, task: Task, plan: Plan) -> VoteOptions:
    require_votes(plan.methods, task)
    parts = VoteOptions(
        options.vote_rule,
        options.vote_weights,
        options.vote_cut,
        shares=not options.vote_unshared,
        probes=options.vote_probe is not None,
        ahead=options.vote_ahead,
        outweighed=options.vote_outweighed,
    )
    require_voting(parts, plan.methods, max(plan.max_sequences))
    return parts


def _probing(
    options: argparse.Namespace, task: Task, methods: Sequence[str], reasoning_end: str | None
) -> Probing | None:
    if options.vote_probe is None and EARLY_EXIT not in methods:
        if configured(PROBING, options) != PROBING:
            raise ValueError("--vote-probe-… are limits of probes; give --vote-probe TEXT as well")
        return None
    text = AUTO if options.vote_probe is None else options.vote_probe
    if text == AUTO:
        text = (reasoning_end or "") + task.defaults.answer_start
    require_probed(text, methods, task)
    return configured(PROBING, options, text=text)


def _rules(options: argparse.Namespace) -> dict[str, Reallocation]:
    """The rules of the paper with the parameters of a command line."""
    caps = read_caps(options.extra_cap)
    return {
        name: configured(rule, options, max_extra_factor=caps.get(name, rule.max_extra_factor))
        for name, rule in RULES.items()
    }


def _bids(options: argparse.Namespace, task: Task, methods: Sequence[str]) -> str | None:
    if options.token_budget is not None:
        return read_bids(options.bids, task, methods)
    if options.bids is not None:
        raise ValueError(
            f"--bids is {options.bids}, but no tokens are shared; give a --token-budget"
        )
    return None
