"""The proof of a model on a benchmark: `python -m evals.proof --help`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evals import run
from evals.proof.arguments import of_parallel, public
from evals.proof.page import PAGE, write_proof
from evals.proof.sizing import (
    NUM_PILOT,
    TooFewTokensError,
    num_generated,
    num_runs,
    pilot_of,
)
from evals.records.folder import SUMMARY
from evals.records.plan import PARALLEL, VOTES
from evals.tasks import find_task
from evals.throughput.server import device_name

METHODS = ("parallel", "eager_init", "eager_adapt", "trie_parallel", "best_first")
SINGLE = ("temperature", "theta")
"""Options of which a run may have several values, but a proof has one."""
FAILED_PROMPTS = 3
"""Exit code of a run whose other prompts have finished."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pilot and the methods, and write the page; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options, others = _parser().parse_known_args(given)
    if refusal := _refusal(options):
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    shared = ["--task", options.task, "--max-sequences", str(options.max_sequences), *others]
    for name in (*SINGLE, "server", "api_key"):
        value = getattr(options, name)
        shared += [f"--{name.replace('_', '-')}", value] if value else []
    pilot, folder = options.output_dir / "pilot", options.output_dir / "run"
    code = run.main([*of_parallel(shared), *_of_run(PARALLEL, NUM_PILOT, "0", pilot)])
    if code:
        return code
    methods = options.methods or _methods_for(options.task)
    planned = [*shared, *_of_run(methods, NUM_PILOT, options.seeds, folder)]
    runs = num_runs(run.parse_settings(planned, run.METHODS).plan)
    try:
        limit = pilot_of(pilot).num_prompts(options.tokens, runs)
    except TooFewTokensError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    code = run.main([*shared, *_of_run(methods, limit, options.seeds, folder)])
    if code not in (0, FAILED_PROMPTS):
        return code
    facts = {
        "device": options.device or ("not stated (--device)" if options.server else device_name()),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "known_methods": run.METHODS,
        "tokens": options.tokens,
        "pilot_tokens": pilot_of(pilot).spent,
        "run_tokens": num_generated(folder),
        "command": shlex.join(["python", "-m", "evals.proof", *public(given)]),
    }
    write_proof(options.output_dir, json.loads((folder / SUMMARY).read_text()), facts)
    print(f"proof: {options.output_dir / PAGE}")
    return code


def _refusal(options: argparse.Namespace) -> str | None:
    """Why no page can be made of such runs; None if one can."""
    if options.methods and PARALLEL not in options.methods.split(","):
        return f"--methods is {options.methods}; every method is compared with {PARALLEL}, add it"
    for name in SINGLE:
        if "," in str(getattr(options, name)):
            return f"--{name} is {getattr(options, name)}; a proof has a single value"
    return None


def _methods_for(task: str) -> str:
    return ",".join((*METHODS, *VOTES) if find_task(task).can_vote else METHODS)


def _of_run(methods: str, limit: int, seeds: str, folder: Path) -> list[str]:
    sizes = ["--limit", str(limit), "--seeds", seeds]
    return ["--methods", methods, *sizes, "--output-dir", str(folder)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evals.proof",
        allow_abbrev=False,
        description="Run methods and peers on a benchmark within a number of tokens, and write one "
        "page and one JSON file. Other options are those of evals/run.py. The same command "
        "continues after an interruption.",
    )
    parser.add_argument("--server", help="URL of a running SGLang server (default: start one)")
    parser.add_argument("--api-key", help="of that server; it is in no file")
    parser.add_argument("--device", help="of that server, for the page")
    parser.add_argument("--task", default="countdown")
    parser.add_argument("--methods", help="of evals/run.py, with parallel (default: all)")
    parser.add_argument("--max-sequences", type=int, default=16, help="M")
    for name in SINGLE:
        parser.add_argument(f"--{name}", help="of evals/run.py, a single value")
    parser.add_argument("--seeds", default="0")
    parser.add_argument(
        "--tokens", type=int, default=1_000_000, help="that all of it may generate, about"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs/proof"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
