"""What the options of a command line require of each other; each check raises ValueError."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace

from eager_sgl import RULES, Reallocation
from eager_sgl.engine.addresses import require_key, require_seconds, require_url
from evals.config.readers import read_servers
from evals.config.stopping import NO_STOP
from evals.config.voting import VoteOptions
from evals.records.plan import EARLY_EXIT, PARALLEL, STAGE_ONE, STOPPABLE, VOTE, VOTES
from evals.tasks import Task

__all__ = [
    "MAX_WHOLE",
    "require_adaptive_fits",
    "require_amounts",
    "require_labels",
    "require_left_out",
    "require_positive_thetas",
    "require_probed",
    "require_range",
    "require_recordable",
    "require_search",
    "require_servers",
    "require_shared_budget",
    "require_single_mode",
    "require_votes",
    "require_voting",
]

NEEDS_LABELS = "eager"
MAX_WHOLE = 2**31 - 1
MAX_TRIES = 1000
STARTING_NOTHING = ("regrade", "report_only", "replay")


def require_amounts(options: argparse.Namespace) -> None:
    """Times and whole numbers are within their ranges."""
    for name in ("request_timeout", "silence_timeout"):
        require_seconds(name, getattr(options, name))
    for name in ("limit", "concurrency"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    for name, value in vars(options).items():
        if isinstance(value, int):
            require_range(name, value, -MAX_WHOLE)


def require_single_mode(options: argparse.Namespace) -> None:
    """At most one option that starts nothing."""
    given = [name for name in STARTING_NOTHING if getattr(options, name)]
    if len(given) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        also = "; --regrade reports too" if given == ["regrade", "report_only"] else ""
        raise ValueError(f"{names} are mutually exclusive{also}")


def require_range(name: str, value: int, min_value: int = 0) -> None:
    """Whole numbers become 32 bits on the server.

    Args:
        min_value: negative for a number whose own lower bound is checked elsewhere.
    """
    if not min_value <= value <= MAX_WHOLE:
        raise ValueError(f"{name} is {value}; it must be from {max(min_value, 0)} to {MAX_WHOLE}")


def require_servers(options: argparse.Namespace) -> None:
    """The servers, the model, the key and the router fit together."""
    if options.server and options.model:
        raise ValueError(
            "--model and --server are mutually exclusive: an existing server has its model"
        )
    urls = read_servers(options.server)
    if urls and options.api_key:
        require_key(options.api_key)
    if options.router:
        require_url(options.router)
        if not urls:
            raise ValueError("--router needs --server, the URL of one of its replicas")
        if len(urls) > 1:
            raise ValueError(
                f"--router passes requests on to its replicas, and --server is {options.server}; "
                "give one of them, or all without --router"
            )


def require_labels(methods: Sequence[str], task: Task) -> None:
    """EAGer knows which prompts are solved."""
    if NEEDS_LABELS in methods and not task.has_labels:
        others = ",".join(name for name in methods if name != NEEDS_LABELS)
        raise ValueError(
            f"{NEEDS_LABELS} needs reference answers, and {task.name} has none; give --methods "
            f"{others or STAGE_ONE}"
        )


def require_votes(methods: Sequence[str], task: Task) -> None:
    """The answers of the task can agree."""
    votes = [name for name in methods if name in VOTES]
    if votes and not task.can_vote:
        others = ",".join(name for name in methods if name not in VOTES)
        raise ValueError(
            f"{votes[0]} needs answers that can agree, and those of {task.name} cannot; give "
            f"--methods {others or STAGE_ONE}"
        )


def require_left_out(arguments: Sequence[str], names: Sequence[str], command: str) -> None:
    """None of the options is among the arguments of a command that sets them itself."""
    for name in names:
        if any(argument.split("=")[0] == name for argument in arguments):
            raise ValueError(f"{name} has no meaning in {command}; leave it out")


def require_recordable(methods: Sequence[str], *, is_recorded: bool) -> None:
    """Tokens are recorded of independent samples alone."""
    if is_recorded and (others := [name for name in methods if name != PARALLEL]):
        raise ValueError(
            f"--record keeps the tokens' values of {PARALLEL}, and --methods has {others[0]}; "
            f"give --methods {PARALLEL}"
        )


def require_voting(parts: VoteOptions, methods: Sequence[str], max_sequences: int) -> None:
    """There is a vote that the options are of, and some of its sequences may be cut."""
    if replace(parts, probes=False) != VoteOptions() and VOTE not in methods:
        raise ValueError(f"the options --vote-… are of {VOTE}; add it to --methods")
    parts.require_room(max_sequences)


def require_probed(text: str, methods: Sequence[str], task: Task) -> None:
    """There is a vote whose sequences a text can ask for their answers."""
    if VOTE not in methods and EARLY_EXIT not in methods:
        raise ValueError(f"--vote-probe is of {VOTE} and {EARLY_EXIT}; add one to --methods")
    if not text:
        raise ValueError(
            f"--vote-probe is empty: {task.name} says nothing of how its answers begin; give a text"
        )


def require_search(stop: str, methods: Sequence[str]) -> None:
    """There is a search that the rule can end."""
    if stop != NO_STOP and not set(methods) & set(STOPPABLE):
        raise ValueError(
            f"--stop is {stop}, which ends searches; add one of {', '.join(STOPPABLE)} to --methods"
        )


def require_positive_thetas(
    rules: Mapping[str, Reallocation], thresholds: Sequence[float | None]
) -> None:
    """The last θ of a second stage is still above 0."""
    for rule in rules.values():
        if rule.max_tries > MAX_TRIES:
            raise ValueError(f"max_tries is {rule.max_tries}; it must be at most {MAX_TRIES}")
        if any(theta and not rule.lowest_threshold(theta) for theta in thresholds):
            raise ValueError(
                f"max_tries is {rule.max_tries}; at --threshold-factor {rule.threshold_factor:g} "
                f"and --late-factor {rule.late_factor:g}, θ falls to 0"
            )


def require_adaptive_fits(methods: Sequence[str]) -> None:
    """An adaptive θ is of EAGer-init alone."""
    if others := [name for name in methods if name in RULES]:
        raise ValueError(
            f"--theta is adaptive, and {others[0]} needs one that is the same for all prompts; "
            f"give numbers, or --methods {STAGE_ONE}"
        )
    if STAGE_ONE not in methods:
        raise ValueError(f"--theta is adaptive, which is of {STAGE_ONE}; add it to --methods")


def require_shared_budget(
    token_budget: int | None, methods: Sequence[str], max_sequences: Sequence[int]
) -> None:
    """Searches share tokens at one M: a smaller M would not be a part of a larger one."""
    if token_budget is None:
        return
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1")
    if not {*STOPPABLE} & {*methods}:
        raise ValueError(
            f"--token-budget is of {', '.join(STOPPABLE)}; add one of them to --methods"
        )
    if len(max_sequences) > 1:
        raise ValueError(
            f"--token-budget is shared at one M; give --max-sequences {max(max_sequences)}"
        )
