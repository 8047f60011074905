"""The arguments of a proof, as its pilot and its page have them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evals.config.command_line import GROUPS

__all__ = ["of_parallel", "public"]

_OTHERS = ("searches: best_first, swor and trie_parallel", "vote")
"""Groups of options that a run of parallel alone refuses."""


def of_parallel(arguments: Sequence[str]) -> list[str]:
    """Without the options of methods that a pilot does not run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for title in _OTHERS:
        for option in GROUPS[title]:
            option.add_to(parser)
    return parser.parse_known_args(arguments)[1]


def public(arguments: Sequence[str]) -> list[str]:
    """Without the key, and with the name of the model's folder in place of its path."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--api-key")
    parser.add_argument("--model")
    found, kept = parser.parse_known_args(arguments)
    return kept if found.model is None else [*kept, "--model", Path(found.model).name]
