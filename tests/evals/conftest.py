"""A run without a server: what generates is a function of the test's."""

import contextlib
from collections.abc import Iterator

import pytest

from evals import run
from evals.config.settings import Settings
from evals.execution import calls
from evals.execution.connection import Server
from evals.report import plots
from tests.evals.fakes.scripted_run import Generate, Scripted, generate, generate_all, server


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Puts a function in the place of what generates, and a connected server before it."""

    @contextlib.contextmanager
    def connected(settings: Settings, session: int, view: object) -> Iterator[Server]:
        yield servers[0]

    monkeypatch.setattr(run, "connected", connected)
    # Plots take longer than all else together, and have tests of their own.
    monkeypatch.setattr(plots, "draw_plots", lambda data, folder: None)

    servers = [server()]

    def use(function: Generate, on: Server | None = None) -> None:
        servers[:] = [on or server()]
        for name in calls.FIRST_STAGES:
            monkeypatch.setitem(calls.FIRST_STAGES, name, function)

    use(generate)
    monkeypatch.setitem(calls.FIRST_STAGES, "parallel", generate_all)
    return use
