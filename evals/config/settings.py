"""What a run of `evals/run.py` is, complete before anything is started."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_sgl.budget.reallocation import Reallocation
from eager_sgl.config import EagerConfig, SearchConfig
from evals.config.calibration import Calibration
from evals.config.defaults import OF_TASK, Choices
from evals.config.options import (
    TextVerifier,
)
from evals.config.stopping import StopOption
from evals.records.identity import weights_digest
from evals.records.plan import RESUME, SEARCHES, SWEPT, Cell, Plan
from evals.tasks import Sample, Task

if TYPE_CHECKING:
    from eager_sgl.engine.probe import ServerProfile

__all__ = ["BUNDLED_MODEL", "SCHEMA", "Settings", "digest_prompts"]

SCHEMA = 1
BUNDLED_MODEL = Path(__file__).parents[1] / "reasoner" / "model"

SEARCH_FIELDS = ("width", "max_tokens")
RULE_FIELDS = ("max_extra_factor", "threshold_factor", "max_tries", "late_factor")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run.

    Attributes:
        plan: what is swept.
        samples: the prompts, the same for every cell.
        base: the method; θ, M and τ are those of a cell.
        search: the searches; M and τ are those of a cell.
        priority: of best-first.
        stop: ends a search early; None for never.
        token_budget: tokens per prompt that the prompts of a search share; None if they do not.
        bids: one of `evals.config.bidding.BIDS`, by what they share them; None with it.
        rules: of the methods of two stages, by name.
        verifier: says of a sequence's text whether it is correct; None leaves that to the labels.
        verifier_name: as on the command line.
        calibration: of θ, where it comes from a file.
        quantile: of the adaptive θ; None where it follows from M.
        choices: what was taken from the model's preset or from defaults.
        may_run_code: whether programs that the model wrote may be run.
        limit: most prompts; None for all.
        levels: those that prompts were chosen from; None for all.
        concurrency: prompts that run at the same time.
        set_aside: whether a complete run of another configuration in the output folder is
            renamed, not refused.
        report_only: whether to report on what the output folder holds, and do no more.
        regrade: whether to judge what the output folder holds again, and do no more.
        server: URL of an existing server; None starts one.
        router: URL of the router before several servers, of which `server` is one.
        model: of the server that is started: a folder or a hub id.
        request_timeout: seconds in total for one request.
        silence_timeout: seconds without any byte of its answer.
        api_key: never written anywhere.
    """

    task: Task
    plan: Plan
    samples: tuple[Sample, ...]
    base: EagerConfig
    search: SearchConfig
    priority: str
    stop: StopOption | None
    token_budget: int | None
    bids: str | None
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
    regrade: bool
    server: str | None
    router: str | None
    model: str
    request_timeout: float
    silence_timeout: float
    api_key: str | None

    def config(self, cell: Cell) -> EagerConfig:
        """The method in one cell; where it has no fixed θ, it keeps the base's."""
        threshold = self.base.threshold if cell.threshold is None else cell.threshold
        return replace(
            self.base,
            max_sequences=cell.max_sequences,
            threshold=threshold,
            deferred_threshold=self._deferred_threshold(threshold),
            sampling=replace(self.base.sampling, temperature=cell.temperature),
        )

    def search_config(self, cell: Cell) -> SearchConfig:
        """The search in one cell."""
        return replace(
            self.search,
            max_sequences=cell.max_sequences,
            sampling=replace(self.search.sampling, temperature=cell.temperature),
        )

    def shared_tokens(self, cell: Cell) -> int | None:
        """Generated tokens that the prompts of a cell share; None where each has its own M."""
        if self.token_budget is None or cell.method not in SEARCHES:
            return None
        return self.token_budget * len(self.samples)

    def _deferred_threshold(self, threshold: float) -> float | None:
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
        del eager["deferred_threshold"]
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
            "prompts": digest_prompts(self.samples),
            "eager": eager,
            "search": {
                "priority": self.priority,
                **{name: getattr(self.search, name) for name in SEARCH_FIELDS},
                "stop": str(self.stop) if self.stop else None,
                "token_budget": self.token_budget,
                **({"bids": self.bids} if self.bids else {}),
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
            **({"adaptive_quantile": self.quantile} if None in plan.thresholds else {}),
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


def digest_prompts(samples: Sequence[Sample]) -> str:
    """Differs where any prompt does, or their order."""
    prompts = json.dumps([[sample.id, sample.prompt] for sample in samples])
    return hashlib.sha256(prompts.encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    """Of what the results depend on, on this machine."""
    installed = {name: version(name) for name in ("eager_sgl", "sglang", "torch")}
    return installed | {"python": platform.python_version(), "platform": platform.platform()}
