"""The endpoint against its SGLang server: `python -m evals.throughput.endpoint --help`.

Both are asked in turn, request by request where one is asked at a time and else pass by pass: the
server and the endpoint, then twice the endpoint first, and the server first again, so that neither
is favoured by its turn over four passes. Nothing else may run on the machine. CPU seconds of the
endpoint are comparable between machines that are busy, too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eager_sgl import EmbeddedRuntime
from eager_sgl.engine.protocol import Json
from evals.tasks import find_task
from evals.throughput.endpoint.asking import Route
from evals.throughput.endpoint.process import EndpointProcess
from evals.throughput.endpoint.relay import first_token_of, relay_row
from evals.throughput.endpoint.samples import samples_row

REASONER = Path(__file__).parents[2] / "reasoner" / "model"
REQUESTS = {1: 60, 32: 192, 256: 512}
"""The requests of a pass by the number of them at once."""
NUM_TOKENS = 80
"""Of each, as in the mean of the task; equal, so that both routes have the same work."""
TEMPERATURES = (0.6, 1.0)
ALPHA = 0.01
"""The error of the test of distributions: how often it rejects equal ones."""


def main() -> None:
    """Measure, print, and write the figures."""
    options = _parser().parse_args()
    with _servers(options) as (direct, endpoint):
        bodies = _bodies(endpoint.model, options.prompts)
        relay = _print_relay(direct, endpoint, bodies, options.passes)
        samples = _print_samples(direct, endpoint, bodies, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(relay | {"samples": samples}, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evals.throughput.endpoint")
    parser.add_argument("--server", help="base URL of a running SGLang server")
    parser.add_argument("--server-key", help="its API key")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--passes", type=int, default=4, help="both come first equally often in 4")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--at-once", type=int, default=12, help="requests with n at the same time")
    parser.add_argument("--output", type=Path, default=Path("runs/endpoint.json"))
    return parser


@contextmanager
def _servers(options: argparse.Namespace) -> Iterator[tuple[Route, EndpointProcess]]:
    with tempfile.TemporaryDirectory(prefix="eager_sgl_endpoint_") as name:
        arguments: Any = {
            "log_path": Path(name) / "endpoint.log",
            "options": ["--max-requests", "1024"],
        }
        if options.server is not None:
            key = options.server_key
            with EndpointProcess([options.server], server_key=key, **arguments) as endpoint:
                yield Route("direct", options.server, key), endpoint
            return
        log_path = Path(name) / "runtime.log"
        with (
            EmbeddedRuntime(REASONER, log_path=log_path, server_args={"random_seed": 0}) as runtime,
            EndpointProcess([runtime.url], server_key=runtime.api_key, **arguments) as endpoint,
        ):
            yield Route("direct", runtime.url, runtime.api_key), endpoint


def _bodies(model: str, number: int) -> list[Json]:
    task = find_task("countdown")
    fixed = {"model": model, "top_p": 0.95, "max_tokens": task.defaults.max_new_tokens}
    return [fixed | {"messages": sample.prompt} for sample in task.load(number, None, 1)]


def _print_relay(direct: Route, endpoint: EndpointProcess, bodies: list[Json], passes: int) -> Json:
    fixed = {"temperature": 0.6, "max_tokens": NUM_TOKENS, "ignore_eos": True}
    single = [body | fixed for body in bodies]
    print("| at once | share of the throughput | requests/s | CPU s for 1,000 |\n|" + " --- |" * 4)
    rows = []
    for at_once, number in REQUESTS.items():
        asked = [single[index % len(single)] for index in range(number)]
        row = relay_row(direct, endpoint, asked, at_once, passes)
        spread = f"[{min(row.ratios):.2f}, {max(row.ratios):.2f}]"
        rate, cpu = f"{row.direct_per_second:.1f}", f"{row.cpu_seconds:.2f}"
        print(f"| {at_once} | {row.ratio:.2f} {spread} | {rate} | {cpu} |", flush=True)
        rows.append(asdict(row))
    first = first_token_of(direct, endpoint, single[:20], passes)
    print(f"\nfirst token at 1: {1e3 * first.added:+.1f} ms", flush=True)
    return {"relay": rows, "first_token": asdict(first)}


def _print_samples(
    direct: Route,
    endpoint: EndpointProcess,
    bodies: list[Json],
    options: argparse.Namespace,
) -> list[Json]:
    heads = "| τ | tokens | seconds | distance of answers | p | same distribution |"
    print(f"\nn = {options.n}, as shares of the server's own\n\n{heads}\n|" + " --- |" * 6)
    ours, rows = Route("endpoint", endpoint.url), []
    for temperature in TEMPERATURES:
        asked = [body | {"temperature": temperature, "n": options.n} for body in bodies]
        row = samples_row(direct, ours, asked, options.at_once, min(options.passes, 4))
        spread = f"[{min(row.second_ratios):.2f}, {max(row.second_ratios):.2f}]"
        verdict = f"rejected at {ALPHA}" if row.p_value < ALPHA else f"not rejected at {ALPHA}"
        cells = (
            f"{temperature:g}",
            f"{row.token_ratio:.2f}",
            f"{row.second_ratio:.2f} {spread}",
            f"{row.distance:.3f}",
            f"{row.p_value:.3f}",
            verdict,
        )
        print(f"| {' | '.join(cells)} |", *row.reasons, flush=True)
        rows.append(asdict(row))
    return rows


if __name__ == "__main__":
    main()
