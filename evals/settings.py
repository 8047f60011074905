"""The command line of `evals/run.py`, checked and complete before anything is started."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from eager_sgl.core import EagerConfig, SamplingConfig
from eager_sgl.wire import TIMEOUT, require_url
from evals.tasks import TASKS, Sample, Task, find_task

__all__ = ["BUNDLED_MODEL", "QUICKSTART", "Settings", "parse_settings", "versions"]

BUNDLED_MODEL = Path(__file__).parent / "reasoner" / "model"
QUICKSTART = Path("runs/quickstart")
API_KEY_VARIABLE = "EAGER_SGL_API_KEY"
SHOWN = "(default: %(default)s)"
SEED_HELP = (
    f"chooses the prompts and seeds the embedded server {SHOWN}; "
    "the sampling of a server given by --server cannot be seeded"
)


@dataclass(frozen=True)
class Settings:
    """A run.

    Attributes:
        methods: names, in the order in which they are run.
        samples: the prompts, the same for every method.
        eager: θ, M, how tokens are drawn, and the rest of the method.
        limit: most prompts; None for all.
        levels: those that prompts were chosen from; None for all.
        seed: of the choice of prompts, and of the server that is started.
        concurrency: prompts that run at the same time.
        set_aside: whether an earlier run in the output folder is renamed, not refused.
        server: URL of an existing server; None starts one.
        model: of the server that is started: a folder or a hub id.
        timeout: seconds to wait for the answer to any one request.
        api_key: never written anywhere.
    """

    task: Task
    methods: tuple[str, ...]
    samples: tuple[Sample, ...]
    eager: EagerConfig
    limit: int | None
    levels: tuple[int, ...] | None
    seed: int
    concurrency: int
    output_dir: Path
    set_aside: bool
    server: str | None
    model: str
    timeout: float
    api_key: str | None

    def to_json(self) -> dict[str, Any]:
        """What `config.json` and `summary.json` tell of the run."""
        return {
            "task": self.task.name,
            "methods": list(self.methods),
            "eager": asdict(self.eager),
            "limit": self.limit,
            "levels": list(self.levels) if self.levels else None,
            "num_prompts": len(self.samples),
            "seed": self.seed,
            "concurrency": self.concurrency,
            "server": self.server,
            "model": None if self.server else self.model,
        }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, without the usage."""
        self.exit(2, f"error: {message}\n")


def parse_settings(arguments: Sequence[str] | None, methods: Sequence[str]) -> Settings:
    """The settings of a command line; a wrong one exits with code 2 and one sentence.

    Args:
        arguments: None takes those of the process.
        methods: the names that there are.
    """
    parser = _parser(methods)
    options = parser.parse_args(arguments)
    try:
        return _settings(options, methods)
    except ValueError as error:
        parser.error(str(error))


def _parser(methods: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="evals/run.py",
        description="Run test-time scaling methods on a task and compare what they reach and cost.",
    )
    add = parser.add_argument
    add("--task", default="countdown", help=f"one of {', '.join(TASKS)} {SHOWN}")
    add("--methods", default=",".join(methods), help=f"comma-separated, run in this order {SHOWN}")
    add("--limit", type=int, help="most prompts, spread evenly over levels (default: the task's)")
    add("--levels", help="comma-separated levels of difficulty (default: all)")
    add("--output-dir", type=Path, help=f"a new folder (default: {QUICKSTART}, set aside if full)")
    add("--seed", type=int, default=0, help=SEED_HELP)
    add("--concurrency", type=int, default=32, help=f"prompts that run at the same time {SHOWN}")
    _add_method_options(parser.add_argument_group("method"))
    _add_server_options(parser.add_argument_group("server"))
    return parser


def _add_method_options(group: argparse._ArgumentGroup) -> None:
    paper, add = EagerConfig(threshold=1.0), group.add_argument
    sampling = paper.sampling
    add("--max-sequences", type=int, default=16, help=f"M, most sequences per prompt {SHOWN}")
    add("--theta", type=float, help="θ in nats, in (0, ln K] (default: the task's, calibrated)")
    add("--temperature", type=float, default=sampling.temperature, help=f"τ of sampling {SHOWN}")
    add("--top-p", type=float, default=sampling.top_p, help=f"nucleus mass of sampling {SHOWN}")
    add("--max-new-tokens", type=int, help="length limit of a sequence (default: the task's)")
    add("--chunk-tokens", type=int, help="tokens per monitored request (default: the task's)")
    add(
        "--top-k", type=int, default=paper.top_k, help=f"K, tokens that the entropy is over {SHOWN}"
    )
    add(
        "--entropy-temperature",
        type=float,
        default=paper.entropy_temperature,
        help=f"temperature of the distribution whose entropy is taken {SHOWN}",
    )
    add(
        "--patience",
        type=int,
        default=paper.patience,
        help=f"steps watched without a branch {SHOWN}",
    )


def _add_server_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--server", help="URL of a running SGLang server (default: start one)")
    add("--api-key", help=f"of that server (default: the environment's {API_KEY_VARIABLE})")
    add("--timeout", type=float, default=TIMEOUT, help=f"seconds for any one request {SHOWN}")
    add("--model", help="folder or hub id for the server to start (default: the bundled reasoner)")


def _settings(options: argparse.Namespace, known_methods: Sequence[str]) -> Settings:
    if options.server and options.model:
        raise ValueError("--model is of the server that is started; --server brings its own")
    if options.server:
        require_url(options.server)
    if options.timeout <= 0:
        raise ValueError(f"timeout is {options.timeout:g}; it must be above 0 seconds")
    for name in ("limit", "concurrency"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    task = find_task(options.task)
    limit = task.defaults.limit if options.limit is None else options.limit
    levels = _levels(options.levels)
    samples = tuple(task.load(limit, levels, options.seed))
    if not samples:
        raise ValueError(f"task {task.name} has no prompts")
    return Settings(
        task=task,
        methods=_methods(options.methods, known_methods),
        eager=_eager_config(options, task),
        samples=samples,
        limit=limit,
        levels=levels,
        seed=options.seed,
        concurrency=options.concurrency,
        output_dir=options.output_dir or QUICKSTART,
        set_aside=options.output_dir is None,
        server=options.server,
        model=options.model or str(BUNDLED_MODEL),
        timeout=options.timeout,
        api_key=options.api_key or os.environ.get(API_KEY_VARIABLE),
    )


def _methods(names: str, known: Sequence[str]) -> tuple[str, ...]:
    methods = tuple(name.strip() for name in names.split(","))
    for name in methods:
        if name not in known:
            raise ValueError(f"unknown method {name!r}; there is {', '.join(known)}")
    if len(set(methods)) < len(methods):
        raise ValueError(f"methods is {names}; each may be named once")
    return methods


def _levels(levels: str | None) -> tuple[int, ...] | None:
    if levels is None:
        return None
    try:
        return tuple(int(level) for level in levels.split(","))
    except ValueError as error:
        raise ValueError(f"levels is {levels!r}; it must be whole numbers with commas") from error


def _eager_config(options: argparse.Namespace, task: Task) -> EagerConfig:
    def given(name: str, default: Any) -> Any:
        value = getattr(options, name)
        return default if value is None else value

    return EagerConfig(
        threshold=given("theta", task.defaults.threshold),
        max_sequences=options.max_sequences,
        top_k=options.top_k,
        entropy_temperature=options.entropy_temperature,
        patience=options.patience,
        chunk_tokens=given("chunk_tokens", task.defaults.chunk_tokens),
        sampling=SamplingConfig(
            temperature=options.temperature,
            top_p=options.top_p,
            max_new_tokens=given("max_new_tokens", task.defaults.max_new_tokens),
        ),
    )


def versions() -> dict[str, str]:
    """Of what the results depend on, on this machine."""
    installed = {name: version(name) for name in ("eager_sgl", "sglang", "torch")}
    return installed | {"python": platform.python_version(), "platform": platform.platform()}
