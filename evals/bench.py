"""How much of the speed of plain sampling is left while branching: `evals/bench.py --help`.

On one server, pass by pass and several times over, it times plain sampling without logprobs (the
ceiling), the monitors of `EagerConfig`, and stepping token by token (the floor). The work, and what
makes it equal, is described in `evals/throughput/workload.py`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from eager_sgl import EagerError
from eager_sgl.engine.addresses import API_KEY_VARIABLE, require_key, require_url
from evals.config.defaults import GC_THRESHOLD
from evals.records.files import write_whole
from evals.throughput.client import time_client, time_small_runs
from evals.throughput.server import circumstances, connected
from evals.throughput.shapes import Shape, Throughput, contenders, time_shape
from evals.throughput.table import print_heads, print_rows, print_throughput
from evals.throughput.workload import Stopwatch

if TYPE_CHECKING:
    from eager_sgl import Client

MODEL = Path(__file__).parent / "reasoner" / "model"
LIVE_BRANCHES = (64, 512, 2048)
PROMPTS_IN_FLIGHT = (64, 512, 2048)
QUICK_SHAPES, QUICK_REPEATS = "1x32,8x8", 2
MODES_HELP = (
    "comma-separated: natural (θ = 0.7, that of the bundled reasoner), eager (θ = 0.05, M is "
    "reached at once), monitored (θ = 2.99, all steps are monitored and none branches)"
)


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
    gc.set_threshold(GC_THRESHOLD)
    if options.small_runs:
        print_rows(time_small_runs(options.small_runs))
        return 0
    if options.client_only:
        return _time_client(options.output_dir)
    if options.quick:
        options.shapes, options.repeats = QUICK_SHAPES, QUICK_REPEATS
    with connected(
        options.server,
        options.api_key,
        options.model,
        options.server_args,
        options.output_dir,
        options.gate,
    ) as (client, stopwatch):
        rows = []
        print_heads()
        for row in _time_shapes(options, client, stopwatch):
            print_throughput(row)
            rows.append(asdict(row))
        write_whole(options.output_dir / "bench.json", {"rows": rows, **circumstances(client)})
    print(f"\nresults: {options.output_dir / 'bench.json'}")
    return 0


def _time_shapes(
    options: argparse.Namespace, client: Client, stopwatch: Stopwatch
) -> Iterator[Throughput]:
    ways = contenders(options.monitors.split(","), [int(n) for n in options.chunks.split(",")])
    for mode in options.modes.split(","):
        for text in options.shapes.split(","):
            num_prompts, max_sequences = (int(number) for number in text.split("x"))
            yield from time_shape(
                Shape(mode, num_prompts, max_sequences, options.rounds),
                ways,
                client,
                stopwatch,
                repeats=options.repeats,
                max_new_tokens=options.max_new_tokens,
            )


def _time_client(folder: Path) -> int:
    rows = time_client(LIVE_BRANCHES, PROMPTS_IN_FLIGHT)
    print_rows(rows)
    content = {"rows": [asdict(row) for row in rows], **circumstances(None)}
    write_whole(folder / "bench_client.json", content)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evals/bench.py", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    add, shown = parser.add_argument, "(default: %(default)s)"
    add("--server", help="URL of a running SGLang server (default: start one)")
    add("--api-key", default=os.environ.get(API_KEY_VARIABLE), help="of that server")
    add("--model", default=MODEL, help="folder or hub id for the server to start")
    add("--server-args", type=json.loads, default={}, help="JSON: further `ServerArgs`")
    add("--gate", choices=("auto", "pickle"), default="auto", help=f"as of run.py {shown}")
    add("--shapes", default="1x32,8x8,32x8", help=f"prompts at once × M {shown}")
    add("--modes", default="natural", help=f"{MODES_HELP} {shown}")
    add("--chunks", default="32", help=f"chunk sizes {shown}")
    add("--monitors", default="gate,chunk,step", help=f"what is timed beside plain {shown}")
    add("--repeats", type=int, default=3, help=f"passes of each, interleaved {shown}")
    add("--rounds", type=float, default=1, help=f"prompts in all, per prompt at once {shown}")
    add("--max-new-tokens", type=int, default=256, help=f"length limit {shown}")
    add("--output-dir", type=Path, default=Path("runs/bench"), help=f"for bench.json {shown}")
    add("--client-only", action="store_true", help="time the client alone; no model")
    add("--small-runs", type=int, help="run so many small prompts, and show what they leave behind")
    add("--quick", action="store_true", help="two passes over the smaller shapes")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EagerError as error:
        sys.exit(f"error: {error}")
