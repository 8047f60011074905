"""The options of `evals/bench.py`, and their readers."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.gate.choice import GATE_CHOICES
from evals.throughput.contenders import MONITORS, SEARCH_MONITORS, SEARCHES
from evals.throughput.profiles import LARGE_VOCABULARY, MODES, PROFILES, Profile, Size

__all__ = ["parser", "profile_of"]


def parser(description: str) -> argparse.ArgumentParser:
    """The parser of the command line; options of a profile default to None."""
    made = argparse.ArgumentParser(
        prog="evals/bench.py", description=description, allow_abbrev=False
    )
    _add_server(made.add_argument)
    _add_profile(made.add_argument)
    _add_client(made.add_argument)
    return made


def profile_of(options: argparse.Namespace) -> Profile:
    """The profile that is named, with the options that are given."""
    default = LARGE_VOCABULARY if options.vocabulary else "standard"
    given = {field.name: getattr(options, field.name) for field in fields(Profile)}
    known = {name: value for name, value in given.items() if value is not None}
    return replace(PROFILES[options.profile or default], **known)


Add = Callable[..., Any]


def _add_server(add: Add) -> None:
    shown = "(default: %(default)s)"
    add("--server", help="URL of a running SGLang server (default: start one)")
    add("--api-key", default=os.environ.get(API_KEY_VARIABLE), help="of that server")
    add("--model", help="folder or hub id for the server to start (default: the bundled one)")
    add("--server-args", type=json.loads, default={}, help="JSON: further `ServerArgs`")
    add("--gate", choices=GATE_CHOICES, default="auto", help=f"as of run.py {shown}")
    add("--output-dir", type=Path, default=Path("runs/bench"), help=f"for bench.json {shown}")


def _add_profile(add: Add) -> None:
    add(
        "--profile",
        choices=PROFILES,
        help="defaults of all that follow (default: standard); accelerator takes under eight "
        "minutes with the start of the server, and has a pass of every shape at least",
    )
    add("--shapes", type=_sizes, help="of EAGer-init: prompts at once × M, as in 1x32,8x8")
    add("--search-shapes", type=_sizes, help="of the searches")
    add("--modes", type=_modes, help=f"θ of EAGer-init: {_modes_help()}, or a number in nats")
    add("--monitors", type=_names(MONITORS), help=f"of EAGer-init: {', '.join(MONITORS)}")
    add("--chunks", type=_integers, help="chunk sizes of the monitor chunk")
    add("--searches", type=_names(SEARCHES), help=f"{', '.join(SEARCHES)}, or empty for none")
    add("--width", dest="widths", type=_integers, help="of best-first: as of run.py, or several")
    add("--search-monitors", type=_names(SEARCH_MONITORS), help=f"{', '.join(SEARCH_MONITORS)}")
    add("--repeats", type=int, help="passes of each contender, interleaved")
    add("--rounds", type=float, help="prompts in all, per prompt at once")
    add("--max-new-tokens", type=int, help="length limit")
    add("--top-p", type=float, help="nucleus mass of all sampling")
    add("--minutes", type=float, help="since the start, after which no further pass begins")
    add(
        "--vocabulary",
        type=int,
        help="make a small random model with so many tokens in the output folder, with entropies "
        "as a real model's, and serve it",
    )


def _add_client(add: Add) -> None:
    add("--client-only", action="store_true", help="time the client alone; no model")
    add("--small-runs", type=int, help="run so many small prompts, and show what they leave behind")


def _modes_help() -> str:
    return ", ".join(f"{name} ({theta:g})" for name, theta in MODES.items())


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in _parts(text))


def _sizes(text: str) -> tuple[Size, ...]:
    sizes = [part.split("x") for part in _parts(text)]
    return tuple((int(prompts), int(sequences)) for prompts, sequences in sizes)


def _modes(text: str) -> tuple[str, ...]:
    modes = _parts(text)
    for mode in modes:
        if mode not in MODES:
            float(mode)
    return tuple(modes)


def _names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        for name in _parts(text):
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"unknown name {name!r}; choose from {', '.join(known)}"
                )
        return tuple(_parts(text))

    return read
