"""How much of the speed of plain sampling is left while branching: `evals/bench.py --help`.

On one server, pass by pass and several times over, it times plain sampling without logprobs (the
ceiling), EAGer-init by its monitors, and searches; every figure is a share of plain sampling in the
same pass. The work, and what makes it comparable, is described in `evals/throughput/workload.py`.

    evals/bench.py                                    the bundled reasoner
    evals/bench.py --vocabulary 152000                a small random model with that vocabulary
    evals/bench.py --profile accelerator --model ID   on a GPU, in under eight minutes
    evals/bench.py --profile accelerator --server URL the same on a running server
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from eager_sgl import EagerError, SamplingConfig
from eager_sgl.engine.addresses import require_key, require_url
from eager_sgl.engine.loop import GC_THRESHOLD
from evals.records.files import write_whole
from evals.throughput.client import time_client, time_small_runs
from evals.throughput.contenders import Contender, contenders, searches_of
from evals.throughput.options import parser, profile_of
from evals.throughput.profiles import Profile
from evals.throughput.rows import Shape, Throughput
from evals.throughput.server import circumstances, connected
from evals.throughput.shapes import time_shape
from evals.throughput.table import print_heads, print_rows, print_throughput
from evals.throughput.vocabulary import make_model
from evals.throughput.workload import Stopwatch

if TYPE_CHECKING:
    from eager_sgl import Client

MODEL = Path(__file__).parent / "reasoner" / "model"
LIVE_BRANCHES = (64, 512, 2048)
PROMPTS_IN_FLIGHT = (64, 512, 2048)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    options = _parsed(arguments)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    gc.set_threshold(GC_THRESHOLD)
    if options.small_runs:
        print_rows(time_small_runs(options.small_runs))
    elif options.client_only:
        _time_client(options.output_dir)
    else:
        _time_server(options, profile_of(options))
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    command = parser(__doc__.split("\n")[0])
    options = command.parse_args(arguments)
    try:
        if options.server is not None:
            require_url(options.server)
        if options.api_key:
            require_key(options.api_key)
    except ValueError as error:
        command.error(str(error))
    models = {
        "--server": options.server,
        "--model": options.model,
        "--vocabulary": options.vocabulary,
    }
    given = [name for name, value in models.items() if value]
    if len(given) > 1:
        command.error(f"{' and '.join(given)} are mutually exclusive")
    return options


def _time_server(options: argparse.Namespace, profile: Profile) -> None:
    started, folder = time.perf_counter(), options.output_dir
    until = started + 60 * profile.minutes if profile.minutes else float("inf")
    with connected(
        options.server,
        options.api_key,
        _model(options, profile),
        options.server_args,
        folder,
        options.gate,
    ) as (client, stopwatch):
        content = {"rows": [], "settings": asdict(profile), **circumstances(client)}
        print_heads()
        for row in _time_shapes(profile, client, stopwatch, until):
            print_throughput(row)
            content["rows"].append(asdict(row))
            write_whole(folder / "bench.json", content)
    print(f"\nresults: {folder / 'bench.json'}")


def _model(options: argparse.Namespace, profile: Profile) -> str | Path:
    if options.model or options.server or not profile.vocabulary:
        return options.model or MODEL
    size = profile.vocabulary
    return make_model(size, MODEL, options.output_dir / f"vocabulary_{size}")


def _time_shapes(
    profile: Profile, client: Client, stopwatch: Stopwatch, until: float
) -> Iterator[Throughput]:
    """All shapes; each may take an equal part of the time that is left."""
    sampling = SamplingConfig(top_p=profile.top_p, max_new_tokens=profile.max_new_tokens)
    work = list(_work(profile))
    for index, (shape, ways) in enumerate(work):
        now = time.perf_counter()
        yield from time_shape(
            shape,
            ways,
            client,
            stopwatch,
            sampling,
            repeats=profile.repeats,
            until=now + (until - now) / (len(work) - index),
        )


def _work(profile: Profile) -> Iterator[tuple[Shape, list[Contender]]]:
    if monitored := contenders(profile.monitors, profile.chunks):
        for mode in profile.modes:
            for size in profile.shapes:
                yield Shape(mode, *size, profile.rounds), monitored
    if searches := searches_of(profile.searches, profile.search_monitors, profile.widths):
        for size in profile.search_shapes:
            yield Shape("", *size, profile.rounds), searches


def _time_client(folder: Path) -> None:
    rows = time_client(LIVE_BRANCHES, PROMPTS_IN_FLIGHT)
    print_rows(rows)
    content = {"rows": [asdict(row) for row in rows], **circumstances(None)}
    write_whole(folder / "bench_client.json", content)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EagerError as error:
        sys.exit(f"error: {error}")
