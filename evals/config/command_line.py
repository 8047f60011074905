"""The options of `evals/run.py` in one table: name, help, type, default, and the field to set.

An option that sets a field of `SearchConfig`, `EagerConfig` or `Reallocation` needs no more than
its entry here; every other option is read in `evals.config.parse`.
"""

from __future__ import annotations

from pathlib import Path

from eager_sgl import RULES, BestFirst, EagerConfig, Probing, SearchConfig
from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.gate.choice import GATE_CHOICES
from eager_sgl.engine.limits import REQUEST_TIMEOUT, SILENCE_TIMEOUT
from eager_sgl.search import PRIORITIES
from eager_sgl.voting.deciding import AHEAD
from evals.config.bidding import BIDS, VOTE_UNCERTAINTY
from evals.config.option import Option
from evals.config.presets import NO_PRESET, PRESETS
from evals.config.stopping import NO_STOP, STOPS
from evals.records.plan import RESTART
from evals.tasks import TASKS

__all__ = ["AUTO", "EAGER", "FIRST_TASK", "GROUPS", "OPTIONS", "PROBING", "QUICKSTART", "SEARCH"]

QUICKSTART = Path("runs/quickstart")
FIRST_TASK = "countdown"
EAGER, SEARCH, REALLOCATION = EagerConfig(threshold=1.0), SearchConfig(), RULES["eager"]
"""The configurations whose fields options set, with the defaults of the library."""
SAMPLING = EAGER.sampling
AUTO = "auto"
PROBING = Probing(text=AUTO)
SHOWN = "(default: %(default)s)"
COMMAS = "one or more with commas"


RUN = (
    Option(
        "--task",
        f"one of {', '.join(TASKS)}; reasoning_gym:NAME?size=100&seed=0&…, a data set of that "
        "library, with its parameters; or a .jsonl file with prompts of your own: id, prompt, and "
        f"optionally answer, level and grader (default: {FIRST_TASK})",
    ),
    Option(
        "--dataset",
        "a copy of the task's dataset, or a file (jsonl, json, csv, parquet) in its schema "
        "(default: the Hugging Face hub, at a pinned revision, or its cache)",
        Path,
    ),
    Option(
        "--allow-code-execution",
        "let tasks that judge programs run the model's programs, in a sandbox",
        bool,
    ),
    Option("--methods", f"comma-separated, of {{methods}} {SHOWN}"),
    Option(
        "--limit", "maximum number of prompts, spread evenly over levels (default: the task's)", int
    ),
    Option("--levels", "comma-separated levels of difficulty (default: all)"),
    Option(
        "--output-dir",
        "folder for the results, where the same command continues after an interruption (default: "
        f"{QUICKSTART}, set aside if it holds a complete run of another configuration)",
        Path,
    ),
    Option(
        "--record",
        "keep the logprob, entropy and confidence of every token of parallel, which the server's "
        "plugin reports, so that evals/replay.py can play rules on them; needs --methods parallel",
        bool,
    ),
    Option(
        "--report-only",
        "report on the results in the output folder, complete or not; start nothing",
        bool,
    ),
    Option(
        "--regrade",
        "judge the results in the output folder again, by the present answers, levels and judges, "
        "and report on them; start nothing. --task, --dataset and --reasoning-end default to those "
        "of the run",
        bool,
    ),
    Option(
        "--replay",
        "let the schedules of the run in the output folder decide again on its recorded tokens, "
        "and compare; start nothing",
        bool,
    ),
    Option(
        "--seeds",
        f"comma-separated repeats of everything {SHOWN}; the first chooses the prompts and seeds "
        "the embedded server; other servers repeat their draws only if they honour seeds",
        default="0",
    ),
    Option("--concurrency", f"number of prompts that run at the same time {SHOWN}", int, 64),
)

METHOD = (
    Option("--max-sequences", f"M, maximum sequences per prompt, {COMMAS} {SHOWN}", default="16"),
    Option(
        "--parallel-sequences",
        "sequences per prompt of Full Parallel (default: the largest M; half as many again where a "
        "method of two stages is compared with it, so that its curve reaches as many tokens)",
        int,
    ),
    Option(
        "--theta",
        f"θ in nats, in (0, ln K], {COMMAS}; a file written by calibration; or, for eager_init, "
        "auto: the adaptive quantile of the model's entropies at which a chain meets ln(M/2) "
        "branches, or quantile:0.98 (default: the preset's, else the task's)",
    ),
    Option(
        "--preset",
        "the model's own τ, top-p, θ, thinking mode and end of reasoning: "
        f"{', '.join(PRESETS)}, or {NO_PRESET} (default: by the name of the model); options given "
        "here take precedence",
    ),
    Option("--temperature", f"τ of sampling, {COMMAS} (default: {SAMPLING.temperature})"),
    Option(
        "--control-temperatures",
        f"other τ, {COMMAS}, at which parallel alone is run, as a control for methods that explore "
        "(default: none)",
    ),
    Option("--top-p", f"nucleus mass of sampling (default: {SAMPLING.top_p})", float),
    Option("--max-new-tokens", "length limit of a sequence (default: the task's)", int),
    Option(
        "--reasoning-end",
        "text that closes the reasoning; the text after it is judged; none for a model without a "
        "reasoning section (default: the preset's, else found out from the chat template)",
    ),
    Option(
        "--monitor",
        f"how steps are observed {SHOWN}: by the gate inside the server, or by chunks, requests "
        "whose answers have the alternatives of all steps; under eager_init the gate gives no "
        "entropies below θ; auto takes the gate where the server has one (see --gate)",
        choices=("auto", "gate", "chunk"),
        of=EAGER,
    ),
    Option("--chunk-tokens", "tokens per monitored request (default: the task's)", int),
    Option("--top-k", f"K, number of tokens that the entropy is over {SHOWN}", int, of=EAGER),
    Option(
        "--entropy-temperature",
        f"temperature of the distribution whose entropy is taken {SHOWN}",
        float,
        of=EAGER,
    ),
    Option("--patience", f"monitored steps without a branch {SHOWN}", int, of=EAGER),
)

STAGE_TWO = (
    Option(
        "--stage-two",
        f"restart, resume or both with a comma {SHOWN}: extra sequences start again from the "
        "prompt (the paper), or take the best branches that stage one had deferred",
        default=RESTART,
    ),
    Option(
        "--extra-cap",
        f"maximum of extra sequences per prompt, as a multiple of M {SHOWN}: the paper's; the "
        "reference implementation's are eager=1,eager_adapt=3",
        default=f"{REALLOCATION.max_extra_factor:g}",
    ),
    Option(
        "--threshold-factor",
        f"of eager: multiplies θ for the extra sequences where a prompt did not reach M {SHOWN}",
        float,
        of=REALLOCATION,
    ),
    Option(
        "--stage-two-tries",
        "how often a prompt may start again, at a θ lowered by --threshold-factor each time (from "
        "the third on by --late-factor as well), until its extra sequences exist "
        f"{SHOWN}; the reference implementation has no limit",
        int,
        of=REALLOCATION,
        field="max_tries",
    ),
    Option(
        "--late-factor",
        f"see --stage-two-tries {SHOWN}: the reference implementation's",
        float,
        of=REALLOCATION,
    ),
    Option(
        "--verifier",
        "module:function that takes the sample and the text of a sequence and returns whether it "
        "is correct; eager then spends by it (default: by the labels)",
    ),
)

SEARCHING = (
    Option(
        "--priority",
        f"of best_first {SHOWN}: {', '.join(PRIORITIES)}, or module:object",
        default=BestFirst.priority,
    ),
    Option("--width", f"maximum number of paths opened at once per prompt {SHOWN}", int, of=SEARCH),
    Option("--max-tokens", "generated tokens of a prompt that end its search", int, of=SEARCH),
    Option(
        "--stop",
        f"ends a search early {SHOWN}: "
        + ", ".join(f"{name} ({rule.help})" for name, rule in STOPS.items()),
        default=NO_STOP,
    ),
    Option(
        "--token-budget",
        "generated tokens per prompt, on average, that the prompts of a search share: the best of "
        "their --bids continues (default: M sequences for every prompt)",
        int,
    ),
    Option(
        "--bids",
        "with a --token-budget: vote_uncertainty (how far a prompt's sequences disagree, over "
        "their number; of tasks whose answers can agree) or frontier (of best_first: the best "
        "value of --priority, which must be comparable between prompts: joint_cost, "
        f"flat_joint_cost) (default: {VOTE_UNCERTAINTY})",
        choices=BIDS,
    ),
)

VOTING = (
    Option(
        "--vote-rule",
        "decides when a vote ends: beta[:CONFIDENCE] of Adaptive-Consistency, mode[:ERROR], a test "
        "that errs with at most that probability, share[:SHARE[:VOTES]] of all votes, after so "
        "many, or all, which never does (default: beta, and share with --vote-weights)",
    ),
    Option(
        "--vote-weights",
        "weighs votes by the model's probability, or by a confidence: mean, tail[:WINDOW] or "
        "lowest[:WINDOW] (default: every vote counts as 1)",
    ),
    Option(
        "--vote-cut",
        "KEEP:WINDOW:WARMUP: ends a sequence in the server where the mean confidence over WINDOW "
        "steps falls below a floor, which a share KEEP of the prompt's first WARMUP sequences "
        "reached; floor:NATS:WINDOW gives the floor (default: no sequence is cut)",
    ),
    Option(
        "--vote-outweighed",
        "ends a running sequence once its vote by probability would weigh less than this share of "
        "the strongest one so far; with --vote-weights probability and a rule share or all "
        "(default: 0, which ends none)",
        float,
        0.0,
    ),
    Option("--vote-unshared", "sequences of vote share no prefixes", bool),
    Option(
        "--vote-ahead",
        "how far sequences of vote run ahead of the decision, which saves time and costs tokens: 0 "
        "starts as many as can decide, 1 as many as decide if answers keep their shares, another "
        f"number that many times as many {SHOWN}",
        float,
        AHEAD,
    ),
    Option(
        "--vote-probe",
        "text that asks running sequences for their answers, so that stable ones vote early; "
        f"{AUTO}: the --reasoning-end and the beginning of the task's answers (default: no probes "
        f"of vote, and {AUTO} of early_exit)",
    ),
    Option(
        "--vote-probe-interval",
        f"tokens of a sequence between two probes {SHOWN}",
        int,
        of=PROBING,
        field="interval",
    ),
    Option(
        "--vote-probe-stable",
        f"probes in a row whose equal answers end a sequence {SHOWN}",
        int,
        of=PROBING,
        field="stable",
    ),
    Option(
        "--vote-probe-tokens",
        f"maximum of tokens of a probe's answer {SHOWN}",
        int,
        of=PROBING,
        field="max_answer_tokens",
    ),
)

SERVER = (
    Option(
        "--server",
        "URL of a running SGLang server, or of several of the same model with commas: each prompt "
        "runs on one of them, and on another if that fails (default: start one)",
    ),
    Option(
        "--router",
        "URL of SGLang's router in front of several replicas of the model, of which --server is "
        "one",
    ),
    Option(
        "--gate",
        f"gates that may be used {SHOWN}: auto, the plugin that is installed beside the server; "
        "pickle, also a processor that requests carry, on a server that was started with "
        "--enable-custom-logit-processor (everyone who may send it requests can run code there)",
        choices=GATE_CHOICES,
        default="auto",
    ),
    Option(
        "--chat-options",
        "JSON object of fields for the server's /tokenize, such as reasoning_effort and "
        "chat_template_kwargs (default: the preset's)",
    ),
    Option("--api-key", f"of that server (default: the environment's {API_KEY_VARIABLE})"),
    Option(
        "--request-timeout",
        f"seconds in total for one request {SHOWN}; a request that takes longer is stopped, keeps "
        "its tokens and is continued",
        float,
        REQUEST_TIMEOUT,
    ),
    Option(
        "--silence-timeout",
        f"seconds without any byte of a request's answer {SHOWN}, after which it is stopped "
        "likewise",
        float,
        SILENCE_TIMEOUT,
    ),
    Option(
        "--model",
        "folder or hub id for the server to start (default: the bundled reasoner)",
    ),
)

GROUPS = {
    "options": RUN,
    "method": METHOD,
    "second stage of eager_adapt and eager": STAGE_TWO,
    "searches: best_first, swor and trie_parallel": SEARCHING,
    "vote": VOTING,
    "server": SERVER,
}
OPTIONS = tuple(option for options in GROUPS.values() for option in options)
