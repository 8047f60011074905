"""How much of plain sampling's speed is left while branching: `python evals/bench.py --help`.

On one server, one pass after the other and all of it several times over, it times plain sampling
without logprobs (the ceiling), the monitors of `EagerConfig`, and stepping token by token (the
floor). What is timed, and what makes the work equal, is described in
`evals/throughput/workload.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.engine.addresses import API_KEY_VARIABLE, require_key, require_url
from eager_sgl.errors import EagerError
from evals.records.files import write_whole
from evals.tasks import find_task
from evals.throughput.workload import (
    Cost,
    Observer,
    concurrency_of,
    grow_trees,
    sample_plainly,
    segments_of,
)

if TYPE_CHECKING:
    from eager_sgl.engine.endpoint import TokenEndpoint

MODEL = Path(__file__).parent / "reasoner" / "model"
LIVE_BRANCHES = (64, 512, 2048)
MODES = {"natural": 0.7, "eager": 0.05, "watching": 2.99}
MODES_HELP = (
    "comma-separated: natural (θ = 0.7, the bundled reasoner's own), eager (θ = 0.05, M reached at "
    "once), watching (θ = 2.99, everything monitored and nothing ever branches)"
)
COLUMNS = (
    *("mode", "prompts", "M", "monitor", "chunk", "token/s", "spread", "efficiency", "req/1k"),
    *("discard", "pre/1k", "server/1k", "client/1k", "live"),
)


@dataclass(frozen=True)
class Contender:
    """A way to generate.

    Attributes:
        monitor: "plain", "step", or one of `EagerConfig.monitor`.
        chunk_tokens: None where it means nothing.
        once: too slow to be repeated.
    """

    monitor: str
    chunk_tokens: int | None = None
    once: bool = False


@dataclass
class Row:
    """The passes of one contender over one workload."""

    mode: str
    prompts: int
    max_sequences: int
    contender: Contender
    live: int = 0
    costs: list[Cost] = field(default_factory=list)

    def speeds(self) -> list[float]:
        """Tokens per second of each pass."""
        return [cost.delivered / cost.seconds for cost in self.costs]

    def to_json(self, plain: Row) -> dict[str, Any]:
        """The row of `bench.json`; rates are medians over the passes."""
        speeds = self.speeds()
        total = sum(cost.delivered for cost in self.costs)
        server = [cost.server_seconds for cost in self.costs if cost.server_seconds is not None]
        steps = [cost.prefill_steps for cost in self.costs if cost.prefill_steps is not None]
        return {
            "mode": self.mode,
            "monitor": self.contender.monitor,
            "prompts": self.prompts,
            "max_sequences": self.max_sequences,
            "chunk_tokens": self.contender.chunk_tokens,
            "tokens_per_second": median(speeds),
            "tokens_per_second_range": [min(speeds), max(speeds)],
            "efficiency": median(speeds) / median(plain.speeds()),
            "num_passes": len(speeds),
            "live_sequences": self.live,
            "requests_per_1000_tokens": 1e3 * self._sum("requests") / total,
            "discarded_share": self._sum("discarded") / max(1, self._sum("generated")),
            "prefilled_per_1000_tokens": 1e3 * self._sum("prefilled") / total,
            "prefill_steps_per_1000_tokens": 1e3 * sum(steps) / total if steps else None,
            "server_seconds_per_1000_tokens": 1e3 * sum(server) / total if server else None,
            "client_seconds_per_1000_tokens": 1e3
            * sum(cost.client_seconds for cost in self.costs)
            / total,
        }

    def _sum(self, name: str) -> int:
        if name == "discarded" and self.contender.monitor == "plain":
            return 0
        return sum(getattr(cost.counts, name) for cost in self.costs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.server:
            require_url(options.server)
        if options.api_key:
            require_key(options.api_key)
    except ValueError as error:
        parser.error(str(error))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    if options.client_only:
        return _time_client(options.output_dir)
    if options.quick:
        options.shapes, options.repeats = "1x32,8x8", 2
    rows: list[dict[str, Any]] = []
    with _connected(options) as (endpoint, observer):
        _print_line(COLUMNS)
        for mode in options.modes.split(","):
            for shape in options.shapes.split(","):
                prompts, max_sequences = (int(n) for n in shape.split("x"))
                rows += _time_shape(options, endpoint, observer, mode, prompts, max_sequences)
        content = {"rows": rows, **_circumstances(endpoint)}
    write_whole(options.output_dir / "bench.json", content)
    print(f"\nresults: {options.output_dir / 'bench.json'}")
    return 0


def _time_client(folder: Path) -> int:
    from evals.throughput.client import time_client

    rows = time_client(LIVE_BRANCHES)
    _print_line(rows[0], 26)
    for row in rows:
        _print_line([v if isinstance(v, int | str) else f"{v:.1f}" for v in row.values()], 26)
    write_whole(folder / "bench_client.json", {"rows": rows, **_circumstances(None)})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evals/bench.py", description=__doc__.split("\n")[0])
    add, shown = parser.add_argument, "(default: %(default)s)"
    add("--server", help="URL of a running SGLang server (default: start one)")
    add("--api-key", default=os.environ.get(API_KEY_VARIABLE), help="of that server")
    add("--model", default=MODEL, help="folder or hub id for the server to start")
    add("--server-args", type=json.loads, default={}, help="JSON: its `ServerArgs` other than ours")
    add("--shapes", default="1x32,8x8,32x8", help=f"prompts at once × M {shown}")
    add("--modes", default="natural", help=f"{MODES_HELP} {shown}")
    add("--chunks", default="32", help=f"chunk sizes {shown}")
    add("--monitors", default="gate,chunk,step", help=f"what is timed beside plain {shown}")
    add("--repeats", type=int, default=3, help=f"passes of each, interleaved {shown}")
    add("--rounds", type=float, default=1, help=f"prompts in all, per prompt at once {shown}")
    add("--max-new-tokens", type=int, default=256, help=f"length limit {shown}")
    add("--output-dir", type=Path, default=Path("runs/bench"), help=f"for bench.json {shown}")
    add("--client-only", action="store_true", help="time the client alone; no model")
    add("--quick", action="store_true", help="two passes over the smaller shapes")
    return parser


def _time_shape(
    options: argparse.Namespace,
    endpoint: TokenEndpoint,
    observer: Observer,
    mode: str,
    num_prompts: int,
    max_sequences: int,
) -> list[dict[str, Any]]:
    total = max(4, round(options.rounds * num_prompts))
    samples = find_task("countdown").load(total, None, 0)
    prompts = [endpoint.encode(sample.prompt) for sample in samples]
    configs = {
        contender: _config(contender, MODES[mode], max_sequences, options.max_new_tokens)
        for contender in _contenders(options)
    }
    rows = {c: Row(mode, num_prompts, max_sequences, c) for c in configs}
    plain = Row(mode, num_prompts, max_sequences, Contender("plain"))
    reference = next(iter(configs))
    _, trees = grow_trees(endpoint, prompts, configs[reference], num_prompts, observer)
    segments, plain.live = segments_of(trees), concurrency_of(trees, num_prompts)
    sample_plainly(endpoint.transport, segments, configs[reference], plain.live, observer)
    for turn in range(options.repeats):
        plain.costs.append(
            sample_plainly(endpoint.transport, segments, configs[reference], plain.live, observer)
        )
        for contender, config in configs.items():
            if turn == 0 or not contender.once:
                cost, trees = grow_trees(endpoint, prompts, config, num_prompts, observer)
                rows[contender].costs.append(cost)
                rows[contender].live = concurrency_of(trees, num_prompts)
    done = [row.to_json(plain) for row in (plain, *rows.values())]
    for row in done:
        _print_row(row)
    return done


def _contenders(options: argparse.Namespace) -> list[Contender]:
    contenders = []
    for monitor in options.monitors.split(","):
        if monitor == "chunk":
            contenders += [Contender(monitor, int(size)) for size in options.chunks.split(",")]
        elif monitor == "step":
            contenders.append(Contender(monitor, 1, once=True))
        else:
            contenders.append(Contender(monitor))
    return contenders


def _config(
    contender: Contender, threshold: float, max_sequences: int, max_new_tokens: int
) -> EagerConfig:
    return EagerConfig(
        threshold=threshold,
        monitor="gate" if contender.monitor == "gate" else "chunk",
        max_sequences=max_sequences,
        chunk_tokens=contender.chunk_tokens or 64,
        sampling=SamplingConfig(max_new_tokens=max_new_tokens),
    )


@contextlib.contextmanager
def _connected(options: argparse.Namespace) -> Iterator[tuple[TokenEndpoint, Observer]]:
    if options.server:
        from eager_sgl.engine.endpoint import connect

        yield connect(options.server, api_key=options.api_key), Observer()
        return
    from eager_sgl.embedded.runtime import EmbeddedRuntime

    log, server_args = options.output_dir / "runtime.log", {"random_seed": 0, **options.server_args}
    with EmbeddedRuntime(options.model, log_path=log, server_args=server_args) as runtime:
        from eager_sgl.engine.endpoint import connect

        yield connect(runtime.url, api_key=runtime.api_key), Observer(runtime)


def _circumstances(endpoint: TokenEndpoint | None) -> dict[str, Any]:
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    return {
        "device": f"{device}, {len(os.sched_getaffinity(0))} CPU cores",
        "profile": asdict(endpoint.profile) if endpoint else None,
        "versions": {name: version(name) for name in ("sglang", "torch", "eager_sgl")}
        | {"python": platform.python_version()},
    }


def _print_row(row: dict[str, Any]) -> None:
    low, high = row["tokens_per_second_range"]
    steps = row["prefill_steps_per_1000_tokens"]
    server = row["server_seconds_per_1000_tokens"]
    _print_line(
        (
            row["mode"],
            row["prompts"],
            row["max_sequences"],
            row["monitor"],
            row["chunk_tokens"] or "",
            f"{row['tokens_per_second']:.0f}",
            f"{low:.0f}-{high:.0f}",
            f"{row['efficiency']:.3f}",
            f"{row['requests_per_1000_tokens']:.1f}",
            f"{row['discarded_share']:.1%}",
            "" if steps is None else f"{steps:.1f}",
            "" if server is None else f"{server:.2f}",
            f"{row['client_seconds_per_1000_tokens']:.3f}",
            row["live_sequences"],
        )
    )


def _print_line(values: Iterable[object], width: int = 10) -> None:
    print(" ".join(f"{value!s:>{width}}" for value in values), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EagerError as error:
        sys.exit(f"error: {error}")
