"""The settings of a run of `evals/run.py`, complete before anything is started."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import convert

from eager_sgl import RULES, EagerConfig, Probing, Reallocation, SearchConfig
from evals.config.calibration import Calibration
from evals.config.defaults import OF_TASK, Choices
from evals.config.parser import field_names
from evals.config.readers import TextVerifier
from evals.config.stopping import StopOption
from evals.config.voting import VoteOptions, parts_of_peer
from evals.records.columns import RECORDED
from evals.records.header import EagerFields, RunHeader, SearchFields, StoredConfig
from evals.records.identity import weights_digest
from evals.records.plan import RESUME, STOPPABLE, VOTE, Cell, Plan
from evals.tasks import Sample, Task

if TYPE_CHECKING:
    from eager_sgl.engine.gate.choice import GateChoice
    from eager_sgl.engine.probe import ServerProfile

__all__ = ["BUNDLED_MODEL", "Experiment", "ServerSettings", "Settings", "digest_prompts"]

BUNDLED_MODEL = Path(__file__).parents[1] / "reasoner" / "model"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Prompts and the methods that run on them.

    Attributes:
        plan: the sweep.
        samples: the prompts, the same for every cell.
        base: the method; θ, M and τ are those of a cell.
        search: the searches; M and τ are those of a cell.
        priority: of best-first.
        stop: ends a search early; None for never.
        token_budget: tokens per prompt that the prompts of a search share; None if they do not.
        bids: one of `evals.config.bidding.BIDS`; None without a token budget.
        rules: of the methods of two stages, by name.
        verifier: whether the text of a sequence is correct; None leaves that to the labels.
        quantile: of the adaptive θ; None where it follows from M.
        concurrency: prompts that run at the same time.
        records: whether the values of every token are kept.
        probing: of the votes that have probes; None without any.
        voting: the parts of `vote`.
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
    quantile: float | None
    concurrency: int
    records: bool
    probing: Probing | None = None
    voting: VoteOptions = field(default_factory=VoteOptions)

    @cached_property
    def order(self) -> Mapping[str, int]:
        """Number of samples before each one, by id."""
        return {sample.id: index for index, sample in enumerate(self.samples)}

    def config(self, cell: Cell) -> EagerConfig:
        """EAGer-init in one cell; without a fixed θ it keeps the base's."""
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

    def voting_in(self, cell: Cell) -> VoteOptions:
        """The parts of the vote in one cell."""
        if cell.method == VOTE:
            return self.voting
        max_new_tokens = self.search.sampling.max_new_tokens
        return parts_of_peer(cell.method, cell.max_sequences, max_new_tokens)

    def shared_tokens(self, cell: Cell) -> int | None:
        """Generated tokens that the prompts of a cell share; None where each has its own M."""
        if self.token_budget is None or cell.method not in STOPPABLE:
            return None
        return self.token_budget * len(self.samples)

    def _deferred_threshold(self, threshold: float) -> float | None:
        """The lowest entropy of a branch that any rule may resume at."""
        names = [name for name in self.plan.methods if name in self.rules]
        if RESUME not in self.plan.stage_twos or not names:
            return None
        return min(self.rules[name].lowest_threshold(threshold) for name in names)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The servers of a run, and how requests are sent to them.

    Attributes:
        urls: of existing servers of the same model; without any, one is started.
        router: URL of the router in front of several servers, of which the only URL is one.
        model: of the server that is started: a folder or a hub id.
        api_key: never written anywhere.
        request_timeout: seconds in total for one request.
        silence_timeout: seconds without any byte of its answer, as of `AsyncClient`.
        chat_options: how the server renders chat messages.
        gate: the gates that may be used.
    """

    urls: tuple[str, ...]
    router: str | None
    model: str
    api_key: str | None
    request_timeout: float
    silence_timeout: float
    chat_options: Mapping[str, object]
    gate: GateChoice


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run.

    Attributes:
        experiment: the prompts and methods.
        server: where they run.
        choices: values from the model's preset or from defaults.
        calibration: of θ, where it comes from a file.
        verifier_name: as on the command line.
        limit: maximum number of prompts; None for all.
        levels: those that prompts were chosen from; None for all.
        may_run_code: whether programs of the model may be run.
        output_dir: the run's folder.
        set_aside: whether a complete run of another configuration in the output folder is
            renamed, not refused.
        report_only: whether only to report on the results in the output folder.
        regrade: whether only to judge the results in the output folder again.
        replay: whether only to decide again on the results in the output folder.
    """

    experiment: Experiment
    server: ServerSettings
    choices: Choices
    calibration: Calibration | None
    verifier_name: str | None
    limit: int | None
    levels: tuple[int, ...] | None
    may_run_code: bool
    output_dir: Path
    set_aside: bool
    report_only: bool
    regrade: bool
    replay: bool

    @property
    def task(self) -> Task:
        return self.experiment.task

    @property
    def plan(self) -> Plan:
        return self.experiment.plan

    def theta_is_foreign(self, model_path: str) -> bool:
        """Whether the task's own θ is used for a model or an entropy that it does not belong to."""
        if self.choices.threshold_origin != OF_TASK:
            return False
        base, default = self.experiment.base, EagerConfig(threshold=1.0)
        calibrated = str(self.task.defaults.model or BUNDLED_MODEL)
        return (
            base.top_k != default.top_k
            or base.entropy_temperature != default.entropy_temperature
            or weights_digest(model_path) != weights_digest(calibrated)
        )

    def stored(self) -> StoredConfig:
        """The configuration in `config.json`."""
        experiment = self.experiment
        rule_fields = ("max_extra_factor", *field_names(RULES["eager"]))
        return StoredConfig(
            plan=self.plan,
            task=self.task.name,
            dataset=self.task.to_json(),
            has_labels=self.task.has_labels,
            preset=self.choices.preset.to_json() if self.choices.preset else None,
            chat_options=self.server.chat_options,
            limit=self.limit,
            levels=self.levels or None,
            prompts_digest=digest_prompts(experiment.samples),
            eager=convert(experiment.base, EagerFields, from_attributes=True),
            search=self._search(),
            rules={
                name: {key: getattr(rule, key) for key in rule_fields}
                for name, rule in experiment.rules.items()
            },
            verifier=self.verifier_name,
            calibration=asdict(self.calibration) if self.calibration else None,
            adaptive_quantile=experiment.quantile,
            concurrency=experiment.concurrency,
            server=",".join(self.server.urls) or None,
            columns=RECORDED if experiment.records else None,
        )

    def _search(self) -> SearchFields:
        experiment = self.experiment
        names = {*field_names(experiment.search)} - {"width"}
        return SearchFields(
            width=experiment.search.width,
            stop=str(experiment.stop) if experiment.stop else None,
            token_budget=experiment.token_budget,
            bids=experiment.bids,
            options={"priority": experiment.priority}
            | {name: getattr(experiment.search, name) for name in sorted(names)}
            | _probe_options(experiment.probing)
            | experiment.voting.stored(),
        )

    def header(self, profile: ServerProfile) -> RunHeader:
        """The content of `config.json`, and of `summary.json` before its rows."""
        return RunHeader(
            model=profile.model_path,
            model_digest=weights_digest(profile.model_path),
            logprobs=profile.logprobs,
            versions=_versions() | {"server_sglang": profile.version},
            config=self.stored(),
        )


def _probe_options(probing: Probing | None) -> dict[str, str | int]:
    """The limits of a vote's probes by name; empty without probes."""
    return {f"probe_{name}": value for name, value in asdict(probing).items()} if probing else {}


def digest_prompts(samples: Sequence[Sample]) -> str:
    """Differs where any prompt does, or their order."""
    prompts = json.dumps([[sample.id, sample.prompt] for sample in samples])
    return hashlib.sha256(prompts.encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    """Of the packages that the results depend on, and of this machine."""
    installed = {name: version(name) for name in ("eager_sgl", "sglang", "torch")}
    return installed | {"python": platform.python_version(), "platform": platform.platform()}
