"""A run from its folder to its table: the server, the groups that lack results, the report."""

from __future__ import annotations

from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor

from eager_sgl import AdaptiveThreshold, BestFirst, EagerInit, FullParallel, Method
from eager_sgl.plugin.vocabulary import COLUMNS
from evals.analysis.adaptive_threshold import restored
from evals.config import OF_TASK, Experiment, Settings
from evals.execution.connection import Host, Server, find_unfit, hosted
from evals.execution.endings import run_interruptible
from evals.execution.group_run import GroupRun
from evals.execution.progress.view import View
from evals.execution.publishing import is_published, publish
from evals.execution.stages import run_group
from evals.execution.worker import Worker
from evals.records.failures import failed_per_cell
from evals.records.folder import RunFolder
from evals.records.header import RunHeader
from evals.records.plan import SEARCHES, Cell, Plan
from evals.records.results import ResultStore
from evals.tasks import Sample

__all__ = ["evaluate"]

MAX_NAMED = 5
MAX_JUDGES = 32
FOREIGN_THETA = (
    "θ = {theta} is the task's, calibrated for the bundled reasoner, K = 20 and entropies at "
    "temperature 1, which this run does not use (evals/calibrate.py chooses one)"
)


def evaluate(settings: Settings, folder: RunFolder, view: View) -> int:
    """Generate the missing results of a run, and publish; how many results failed."""
    store, plan = folder.store, settings.plan
    for notice in folder.notices:
        view.say(notice)
    header, renew = folder.header, not is_published(folder.path)
    if header is None or plan.missing(cell for cell, _ in store.records):
        if store.records:
            view.say(f"continuing from {len(store.records)} results in {store.path}")
        if failed := folder.failures.open(store.records):
            view.say(f"retrying {len(failed)} results that failed")
        header, renew = _generate(settings, folder, view), True
    records, failures = list(store.records.values()), folder.failures.open(store.records)
    publish(folder.path, header, records, failures, plan, view, renew=renew)
    return sum(failed_per_cell(failures, plan, store.records).values())


def _generate(settings: Settings, folder: RunFolder, view: View) -> RunHeader:
    """Run all groups that lack results; the content of `config.json`."""
    seed, session = settings.plan.seeds[0], folder.store.session
    log_path = settings.output_dir / "runtime.log"
    with hosted(settings.server, seed, session, log_path, view) as host:
        return run_interruptible(_generate_on(host, settings, folder, view))


async def _generate_on(host: Host, settings: Settings, folder: RunFolder, view: View) -> RunHeader:
    experiment, store = settings.experiment, folder.store
    judges = ThreadPoolExecutor(min(experiment.concurrency, MAX_JUDGES))
    try:
        async with host.connected() as server:
            header = await _introduce(settings, folder, server, view)
            unfit = await find_unfit(_lacking(experiment, store), server)
            if unfit:
                view.say(_unfit_note(experiment, unfit))
            thresholds = _adaptive_thresholds(experiment, store)
            worker = Worker(experiment, server, judges, thresholds, unfit)
            await _run_groups(settings.plan, worker, folder, view)
    finally:
        judges.shutdown(wait=False, cancel_futures=True)
    return header


async def _run_groups(plan: Plan, worker: Worker, folder: RunFolder, view: View) -> None:
    store = folder.store
    for group in plan.groups:
        if plan.missing(cell for cell, _ in store.records).keys() & set(group.cells):
            run = GroupRun(group, plan, worker, store, folder.failures, view)
            await run_group(run, worker.server, view)


async def _introduce(
    settings: Settings, folder: RunFolder, server: Server, view: View
) -> RunHeader:
    """Check the server's model, settle `config.json`, and print notices."""
    experiment, profile = settings.experiment, server.client.profile
    view.say(f"monitor: {await _monitors(experiment, server)}")
    if settings.calibration is not None:
        settings.calibration.check_model(profile.model_path)
    num_said = len(folder.notices)
    header = folder.settle(settings.header(profile))
    for notice in folder.notices[num_said:]:
        view.say(notice)
    if settings.choices.reasoning.note:
        view.say(settings.choices.reasoning.note)
    if settings.choices.threshold_origin != OF_TASK:
        view.say(settings.choices.describe(profile.model_path))
    if settings.theta_is_foreign(profile.model_path):
        view.say(f"warning: {FOREIGN_THETA.format(theta=settings.plan.thresholds[0])}")
    return header


async def _monitors(experiment: Experiment, server: Server) -> str:
    """How EAGer-init observes steps, and an adaptive θ and searches if they do so otherwise."""
    monitor = await server.monitor_of(EagerInit(experiment.base))
    others: dict[str, Method] = {}
    if None in experiment.plan.thresholds:
        others["at an adaptive θ"] = EagerInit(experiment.base, AdaptiveThreshold())
    if {*SEARCHES} & {*experiment.plan.methods}:
        others["of searches"] = BestFirst(experiment.search)
    if experiment.records:
        others["of recorded tokens"] = FullParallel(experiment.base.sampling, 1, columns=COLUMNS)
    said = {name: await server.monitor_of(method) for name, method in others.items()}
    return "; ".join([monitor, *(f"{n}: {other}" for n, other in said.items() if other != monitor)])


def _lacking(experiment: Experiment, store: ResultStore) -> list[Sample]:
    """The prompts that lack a result in any cell."""
    return [
        sample
        for sample in experiment.samples
        if any((cell, sample.id) not in store.records for cell in experiment.plan.cells)
    ]


def _unfit_note(experiment: Experiment, unfit: Container[str]) -> str:
    names = [sample.name for sample in experiment.samples if sample.id in unfit]
    named = ", ".join(names[:MAX_NAMED]) + ", …" * (len(names) > MAX_NAMED)
    return f"warning: {len(names)} prompts cannot be given to the model: {named}"


def _adaptive_thresholds(
    experiment: Experiment, store: ResultStore
) -> dict[Cell, AdaptiveThreshold]:
    """The adaptive θ of the cells that have one, restored from the stored results."""
    return {
        cell: restored((r for r in store.records.values() if r.cell == cell), experiment.quantile)
        for cell in experiment.plan.cells
        if cell.is_adaptive
    }
