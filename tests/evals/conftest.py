"""A run without a server: a function of the test generates."""

import contextlib
from collections.abc import Iterator

import pytest

from evals.execution import calls, evaluation
from evals.execution.connection import Host, Server
from evals.report.page import plots
from tests.evals.fakes.scripted_run import (
    Generate,
    Scripted,
    ScriptedHost,
    generate,
    generate_all,
    in_thread,
    server,
)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Replaces generation by a function of the test, and the connection by a fake server."""

    @contextlib.contextmanager
    def hosted(*arguments: object) -> Iterator[Host]:
        yield ScriptedHost(servers[0])

    monkeypatch.setattr(evaluation, "hosted", hosted)
    # Plots take longer than all else together, and have tests of their own.
    monkeypatch.setattr(plots, "draw_plots", lambda data, folder: None)

    servers = [server()]

    def use(function: Generate, on: Server | None = None) -> None:
        servers[:] = [on or server()]
        for name in calls.FIRST_STAGES:
            monkeypatch.setitem(calls.FIRST_STAGES, name, in_thread(function))

    use(generate)
    monkeypatch.setitem(calls.FIRST_STAGES, "parallel", in_thread(generate_all))
    return use
