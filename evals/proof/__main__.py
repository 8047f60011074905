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
from evals.config.checks import require_left_out
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
from evals.records.results import RESULTS
from evals.tasks import find_task
from evals.throughput.server import device_name

METHODS = ("parallel", "eager_init", "eager_adapt", "trie_parallel", "best_first")
"""Without eager, which spends by the labels that it is judged by, and swor, the weakest search."""
CHOSEN_HERE = ("--limit", "--report-only", "--regrade", "--replay")
SINGLE = ("temperature", "theta")
"""Options of which a run may have several values, but a proof has one."""
FAILED_PROMPTS = 3
"""Exit code of a run whose other prompts have finished."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pilot and the methods, and write the page; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options, others = _parser().parse_known_args(given)
    try:
        _require_page(options, others)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shared, methods = _shared(options, others), options.methods or _methods_for(options.task)
    pilot, folder = options.output_dir / "pilot", options.output_dir / "run"
    # A wrong option of the methods is refused before the pilot.
    as_pilot = _of_run(methods, NUM_PILOT, options.seeds, folder)
    plan = run.parse_settings([*shared, *as_pilot], run.METHODS).plan
    code = run.main([*of_parallel(shared), *_of_run(PARALLEL, NUM_PILOT, "0", pilot)])
    if code:
        return code
    try:
        limit = pilot_of(pilot).num_prompts(options.tokens, num_runs(plan))
    except TooFewTokensError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    code = run.main([*shared, *_of_run(methods, limit, options.seeds, folder)])
    if code not in (0, FAILED_PROMPTS):
        return code
    facts = {
        "device": options.device or ("not stated (--device)" if options.server else device_name()),
        "run_made": _made(pilot / RESULTS, folder / RESULTS),
        "page_written": _date(datetime.now(UTC)),
        "known_methods": run.METHODS,
        "tokens": options.tokens,
        "pilot_tokens": pilot_of(pilot).spent,
        "run_tokens": num_generated(folder),
        "command": shlex.join(["python", "-m", "evals.proof", *public(given)]),
    }
    write_proof(options.output_dir, json.loads((folder / SUMMARY).read_text()), facts)
    print(f"proof: {options.output_dir / PAGE}")
    return code


def _made(first: Path, last: Path) -> str:
    """When the results in two files were made: the dates of their last ones."""
    dates = [_date(datetime.fromtimestamp(path.stat().st_mtime, UTC)) for path in (first, last)]
    return " to ".join(dict.fromkeys(dates))


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _require_page(options: argparse.Namespace, others: Sequence[str]) -> None:
    """Raises ValueError if no page can be made of such runs."""
    require_left_out(others, CHOSEN_HERE, "a proof")
    if options.methods and PARALLEL not in options.methods.split(","):
        raise ValueError(
            f"--methods is {options.methods}; every method is compared with {PARALLEL}, add it"
        )
    for name in SINGLE:
        if "," in str(getattr(options, name)):
            raise ValueError(f"--{name} is {getattr(options, name)}; a proof has a single value")


def _shared(options: argparse.Namespace, others: Sequence[str]) -> list[str]:
    """The arguments of both runs."""
    shared = ["--task", options.task, "--max-sequences", str(options.max_sequences), *others]
    for name in (*SINGLE, "server", "api_key"):
        value = getattr(options, name)
        shared += [] if value is None else [f"--{name.replace('_', '-')}", value]
    return shared


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
    parser.add_argument(
        "--methods",
        help=f"of evals/run.py, with parallel (default: {','.join(METHODS)}, and of a task whose "
        f"answers can agree {','.join(VOTES)})",
    )
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
