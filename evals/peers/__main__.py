"""The table of peers: `python -m evals.peers --help`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from eager_sgl import EmbeddedRuntime
from eager_sgl.engine.protocol import Json
from evals.config.readers import read_names, read_object
from evals.peers.environment import peers_python, versions
from evals.peers.outcomes import HEAD, Course, PeerResult, Setting, line_of
from evals.tasks import find_task
from evals.throughput.endpoint.counters import ServerCounts
from evals.throughput.endpoint.process import EndpointProcess

REASONER = Path(__file__).parents[1] / "reasoner" / "model"
PEERS = ("its_hub", "its_hub_beta", "its_hub_adaptive", "optillm")
OURS: Mapping[str, Json] = {
    "vote": {},
    "vote+0.85": {"stop": {"consensus": 0.85}},
    "vote+unshared": {"shares": False},
    "vote+weights": {"weights": "probability"},
    "vote+weights+0.85": {"weights": "probability", "stop": {"consensus": 0.85}},
    "vote+weights+share": {"weights": "probability", "stop": {"share": 0.8, "at_least": 3}},
}
"""Fields of `eager` by contender. Two equal answers decide at 0.85, as its_hub's adaptive rule."""
NUM_LEVELS = 4
ANSWER = '{"answer": "expression"}'
READER = "--answers=expression=evals.peers.answers:expression_answer"


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask every contender, one after another, and print the table."""
    options = _parsed(arguments)
    task, python = find_task("countdown"), peers_python()
    # In the order in which a task takes them the levels alternate: as many of each.
    samples = task.load(options.prompts, None, options.seed)
    outcomes = []
    print(f"{versions()}; {len(samples)} prompts, budget {options.budget}", flush=True)
    # The peers have no bound either.
    bound = f"--max-in-flight={options.budget * options.at_once}"
    with _servers(options.server, options.server_key, bound) as (counts, endpoint):
        setting = Setting(
            model=endpoint.model,
            budget=options.budget,
            temperature=options.temperature,
            max_tokens=task.defaults.max_new_tokens,
            at_once=options.at_once,
            options=options.eager,
        )
        course = Course(python, setting, counts, task, samples)
        for name in options.contenders:
            route = (counts.url, counts.api_key) if name in PEERS else (endpoint.url, None)
            outcomes.append(course.result_of(name, *route, OURS.get(name, {})))
            print(outcomes[-1].summary, flush=True)
    _print_table(outcomes)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the names of the contenders and the fields of `eager` read."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        known = (*OURS, *PEERS)
        options.contenders = read_names("--contenders", "contender", options.contenders, known)
        options.eager = dict(read_object("--eager", options.eager))
    except ValueError as error:
        parser.error(str(error))
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evals.peers", description=__doc__)
    parser.add_argument("--server", help="base URL of a running SGLang server with metrics")
    parser.add_argument("--server-key", help="its API key")
    parser.add_argument("--contenders", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of prompts")
    parser.add_argument("--budget", type=int, default=16, help="sequences of a prompt")
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--at-once", type=int, default=16, help="prompts at the same time")
    parser.add_argument("--eager", default=ANSWER, help="further fields of eager, as JSON")
    parser.add_argument("--output", type=Path, default=Path("runs/peers.json"))
    return parser


@contextmanager
def _servers(
    url: str | None, key: str | None, bound: str
) -> Iterator[tuple[ServerCounts, EndpointProcess]]:
    """The counts of an SGLang server, and the endpoint in front of it, with a bound."""
    with tempfile.TemporaryDirectory(prefix="eager_sgl_peers_") as name:
        log_path = Path(name) / "endpoint.log"
        if url is not None:
            with _endpoint(url, key, log_path, bound) as endpoint:
                yield ServerCounts(url, key), endpoint
            return
        arguments = {"random_seed": 0, "enable_metrics": True}
        with (
            EmbeddedRuntime(
                REASONER, log_path=Path(name) / "runtime.log", server_args=arguments
            ) as runtime,
            _endpoint(runtime.url, runtime.api_key, log_path, bound) as endpoint,
        ):
            yield ServerCounts(runtime.url, runtime.api_key), endpoint


def _endpoint(url: str, key: str | None, log_path: Path, bound: str) -> EndpointProcess:
    return EndpointProcess([url], server_key=key, log_path=log_path, options=[READER, bound])


def _print_table(outcomes: list[PeerResult]) -> None:
    peers = [outcome for outcome in outcomes if outcome.contender in PEERS] or outcomes
    best = max(peers, key=lambda peer: (sum(peer.is_correct), -peer.generated))
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for outcome in outcomes:
        print(line_of(outcome, best))


if __name__ == "__main__":
    main()
