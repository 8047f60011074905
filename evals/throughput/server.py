"""The server that is timed, and what its figures depend on."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.throughput.workload import Stopwatch

if TYPE_CHECKING:
    from eager_sgl import Client
    from eager_sgl.engine.gate.choice import GateChoice

__all__ = ["circumstances", "connected", "device_name"]


@contextlib.contextmanager
def connected(
    url: str | None,
    api_key: str | None,
    model: str | Path,
    server_args: Mapping[str, Any],
    log_folder: Path,
    gate: GateChoice = "auto",
) -> Iterator[tuple[Client, Stopwatch]]:
    """A client of a running server, or of one that is started for the context.

    Args:
        url: of a running server; None starts one.
        server_args: further `ServerArgs` of a server that is started.
        log_folder: for its log.
        gate: as of `Client`.
    """
    from eager_sgl import Client

    if url:
        with Client(url, api_key=api_key, gate=gate) as client:
            yield client, Stopwatch()
        return
    from eager_sgl import EmbeddedRuntime

    args = {"random_seed": 0, **server_args}
    log_path = log_folder / "runtime.log"
    with (
        EmbeddedRuntime(model, log_path=log_path, server_args=args) as runtime,
        Client(runtime.url, api_key=runtime.api_key, gate=gate) as client,
    ):
        yield client, Stopwatch(runtime)


def circumstances(client: Client | None) -> dict[str, Any]:
    """Device, server and versions, as `bench.json` has them."""
    return {
        "device": device_name(),
        "profile": asdict(client.profile) if client else None,
        "versions": {name: version(name) for name in ("sglang", "torch", "eager_sgl")}
        | {"python": platform.python_version()},
    }


def device_name() -> str:
    """The GPU of this machine, or its processor, and the number of CPU cores."""
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    return f"{device}, {len(os.sched_getaffinity(0))} CPU cores"
