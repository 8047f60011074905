"""The arguments of `evals/run.py`: their names, defaults and help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from eager_sgl import BestFirst, EagerConfig, SearchConfig
from eager_sgl.budget.reallocation import RULES
from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.limits import REQUEST_TIMEOUT, SILENCE_TIMEOUT
from evals.config.bidding import BIDS, VOTE_UNCERTAINTY
from evals.config.presets import NO_PRESET, PRESETS
from evals.records.plan import RESTART, SEARCHES
from evals.tasks import TASKS

__all__ = ["FIRST_TASK", "QUICKSTART", "build_parser"]

QUICKSTART = Path("runs/quickstart")
FIRST_TASK = "countdown"
MONITORS = ("auto", "gate", "chunk")
SHOWN = "(default: %(default)s)"
SEEDS_HELP = (
    f"comma-separated repeats of everything {SHOWN}; the first chooses the prompts and seeds the "
    "embedded server; the sampling of a server given by --server cannot be seeded"
)
OUTPUT_HELP = (
    "where results are written, and where the same command goes on after an interruption "
    f"(default: {QUICKSTART}, set aside if it holds a complete run of another configuration)"
)
REPORT_HELP = "report on what the output folder holds by now, complete or not; start nothing"
THETA_HELP = (
    "θ in nats, in (0, ln K], one or more with commas; a file written by calibration; or, for "
    "eager_init, auto: the adaptive quantile of the model's entropies at which a chain meets "
    "ln(M/2) branches, or quantile:0.98 (default: the preset's, else the task's)"
)
REGRADE_HELP = (
    "judge what the output folder holds again, by the present answers, levels and judges, and "
    "report on it; start nothing. Where --task, --dataset or --reasoning-end is not given, it is "
    "that of the run"
)
TASK_HELP = (
    f"one of {', '.join(TASKS)}, or a .jsonl file with prompts of your own: id, prompt, and "
    f"optionally answer, level and grader (default: {FIRST_TASK})"
)
DATASET_HELP = (
    "a copy of the task's dataset, or a file (jsonl, json, csv, parquet) in its schema (default: "
    "the Hugging Face hub, at a pinned revision, or its cache)"
)
CODE_HELP = "let tasks that judge programs run what the model wrote, in a sandbox"
PRESET_HELP = (
    f"the model's own τ, top-p, θ, thinking mode and end of reasoning: {', '.join(PRESETS)}, or "
    f"{NO_PRESET} (default: by the name of the model); options given here come first"
)
REASONING_HELP = (
    "text that closes the reasoning; what follows it is judged (default: the preset's, else "
    "</think>); none where the model does not reason apart"
)
CHAT_HELP = (
    "JSON object of fields for the server's /tokenize, such as reasoning_effort and "
    "chat_template_kwargs (default: the preset's)"
)
ROUTER_HELP = (
    "URL of SGLang's router before several replicas of the model; --server is then one of them"
)
MONITOR_HELP = (
    f"how branch points are found {SHOWN}: by the entropy gate inside the server, or by looking at "
    "chunks, which alone gives the entropies of all steps; auto takes the gate where the server "
    "allows it and no router stands before it"
)
CAP_HELP = (
    f"most extra sequences of a prompt, as a multiple of M {SHOWN}: the paper's; the reference "
    "implementation's are eager=1,eager_adapt=3"
)
FACTOR_HELP = (
    f"of eager: multiplies θ for the extra sequences where a prompt did not reach M {SHOWN}"
)
STAGE_TWO_HELP = (
    f"restart, resume or both with a comma {SHOWN}: extra sequences start again from the prompt "
    "(the paper), or take the best branches that stage one had not taken"
)
TRIES_HELP = (
    "how often a prompt may start again, at a θ lowered by --threshold-factor each time (from the "
    f"third on by --late-factor as well), until its extra sequences exist {SHOWN}; the reference "
    "implementation has no limit"
)
LATE_HELP = f"see --stage-two-tries {SHOWN}: the reference implementation's"
VERIFIER_HELP = (
    "module:function that takes the sample and the text of a sequence and says whether it is "
    "correct; eager then spends by it (default: by the labels)"
)
METHODS_HELP = f"comma-separated, of {{}} {SHOWN}"
PRIORITIES_HELP = (
    "early_peaks, joint_cost, flat_joint_cost, entropy, probability, varentropy, self_certainty, "
    "novel_early_peaks, novel_flat_joint_cost, divergent_early_peaks, or module:object"
)
PARALLEL_HELP = (
    "sequences per prompt of Full Parallel (default: the largest M; half as many again where a "
    "method of two stages is compared with it, so that its curve reaches as many tokens)"
)
CONTROLS_HELP = (
    "other τ, one or more with commas, at which parallel alone is run, as a control for methods "
    "that explore (default: none)"
)
STOP_HELP = (
    f"ends a search early {SHOWN}: consensus (the majority answer will stay one), unexplored or "
    "unexplored:0.1 (less probability than that has not been tried; 0.5 where nothing is said), "
    "verifier (a sequence is correct, by --verifier or the labels)"
)
TOKENS_HELP = (
    "generated tokens per prompt, on average, that the prompts of a search share: the best of "
    "their --bids goes on (default: every prompt has M sequences of its own)"
)
BIDS_HELP = (
    "for a --token-budget: vote_uncertainty (how far a prompt's sequences disagree, over their "
    "number; of tasks whose answers can agree) "
    "or frontier (of best_first: the best value of --priority, which must be comparable between "
    f"prompts: joint_cost, flat_joint_cost) (default: {VOTE_UNCERTAINTY})"
)
REQUEST_HELP = (
    f"seconds in total for one request {SHOWN}; what takes longer is told to stop, keeps its "
    "tokens and is continued"
)
SILENCE_HELP = f"seconds without any byte of a request's answer {SHOWN}, with the same divergence"
EXIT_CODES = (
    "Exit codes: 0, all results are there; 1, the run was broken off (no server, another model "
    "than before, a full disk); 2, the command line or the output folder was refused; 3, some "
    "prompts failed, all others have finished; 130 and 143, interrupted by ctrl-C or SIGTERM. "
    "After 3, 130 and 143, and after 1 once its cause is gone, the same command goes on, and tries "
    "again what failed."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, without the usage."""
        self.exit(2, f"error: {message}\n")


def build_parser(methods: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; what it lets through is still to be checked.

    Args:
        methods: the names that there are; where none is asked for, all but the searches are run.
    """
    defaults = [name for name in methods if name not in SEARCHES]
    parser = _Parser(
        prog="evals/run.py",
        description="Run test-time scaling methods on a task and compare what they reach and cost.",
        epilog=EXIT_CODES,
    )
    add = parser.add_argument
    add("--task", help=TASK_HELP)
    add("--dataset", type=Path, help=DATASET_HELP)
    add("--allow-code-execution", action="store_true", help=CODE_HELP)
    add("--methods", default=",".join(defaults), help=METHODS_HELP.format(", ".join(methods)))
    add("--limit", type=int, help="most prompts, spread evenly over levels (default: the task's)")
    add("--levels", help="comma-separated levels of difficulty (default: all)")
    add("--output-dir", type=Path, help=OUTPUT_HELP)
    add("--report-only", action="store_true", help=REPORT_HELP)
    add("--regrade", action="store_true", help=REGRADE_HELP)
    add("--seeds", default="0", help=SEEDS_HELP)
    add("--concurrency", type=int, default=32, help=f"prompts that run at the same time {SHOWN}")
    _add_method_options(parser.add_argument_group("method"))
    _add_stage_two_options(parser.add_argument_group("second stage of eager_adapt and eager"))
    _add_search_options(parser.add_argument_group("searches: best_first, swor and trie_parallel"))
    _add_server_options(parser.add_argument_group("server"))
    return parser


def _add_method_options(group: argparse._ArgumentGroup) -> None:
    paper, add = EagerConfig(threshold=1.0), group.add_argument
    sampling, commas = paper.sampling, "one or more with commas"
    add("--max-sequences", default="16", help=f"M, most sequences per prompt, {commas} {SHOWN}")
    add("--parallel-sequences", type=int, help=PARALLEL_HELP)
    add("--theta", help=THETA_HELP)
    add("--preset", help=PRESET_HELP)
    add("--temperature", help=f"τ of sampling, {commas} (default: {sampling.temperature})")
    add("--control-temperatures", help=CONTROLS_HELP)
    add("--top-p", type=float, help=f"nucleus mass of sampling (default: {sampling.top_p})")
    add("--max-new-tokens", type=int, help="length limit of a sequence (default: the task's)")
    add("--reasoning-end", help=REASONING_HELP)
    add("--monitor", choices=MONITORS, default=paper.monitor, help=MONITOR_HELP)
    add("--chunk-tokens", type=int, help="tokens per monitored request (default: the task's)")
    add(
        "--top-k", type=int, default=paper.top_k, help=f"K, tokens that the entropy is over {SHOWN}"
    )
    add(
        "--entropy-temperature",
        type=float,
        default=paper.entropy_temperature,
        help=f"temperature of the distribution whose entropy is taken {SHOWN}",
    )
    add(
        "--patience",
        type=int,
        default=paper.patience,
        help=f"steps watched without a branch {SHOWN}",
    )


def _add_stage_two_options(group: argparse._ArgumentGroup) -> None:
    paper, add = RULES["eager"], group.add_argument
    add("--stage-two", default=RESTART, help=STAGE_TWO_HELP)
    add("--extra-cap", default=f"{paper.max_extra_factor:g}", help=CAP_HELP)
    add("--threshold-factor", type=float, default=paper.threshold_factor, help=FACTOR_HELP)
    add("--stage-two-tries", type=int, default=paper.max_tries, help=TRIES_HELP)
    add("--late-factor", type=float, default=paper.late_factor, help=LATE_HELP)
    add("--verifier", help=VERIFIER_HELP)


def _add_search_options(group: argparse._ArgumentGroup) -> None:
    own, add = SearchConfig(), group.add_argument
    add("--priority", default=BestFirst.priority, help=f"of best_first {SHOWN}: {PRIORITIES_HELP}")
    add(
        "--width",
        type=int,
        default=own.width,
        help=f"paths opened at once per prompt, at most {SHOWN}",
    )
    add("--max-tokens", type=int, help="generated tokens of a prompt that end its search")
    add("--stop", default="none", help=STOP_HELP)
    add("--token-budget", type=int, help=TOKENS_HELP)
    add("--bids", choices=BIDS, help=BIDS_HELP)


def _add_server_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--server", help="URL of a running SGLang server (default: start one)")
    add("--router", help=ROUTER_HELP)
    add("--chat-options", help=CHAT_HELP)
    add("--api-key", help=f"of that server (default: the environment's {API_KEY_VARIABLE})")
    add("--request-timeout", type=float, default=REQUEST_TIMEOUT, help=REQUEST_HELP)
    add("--silence-timeout", type=float, default=SILENCE_TIMEOUT, help=SILENCE_HELP)
    add("--model", help="folder or hub id for the server to start (default: the bundled reasoner)")
