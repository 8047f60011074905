"""The settings of a run: its command line, presets, defaults and calibrated θ.

Others use `parse_settings`, which checks a command line and returns `Settings`: an `Experiment`
(prompts and methods), `ServerSettings`, and what concerns the output folder. `command_line`
declares the options, `parser` makes an argument parser of them, and `parse` turns its result into
`Settings`, with `readers` for values, `checks` for options that exclude each other, and `defaults`
for options that are not given. A new option is an entry in `command_line.py`, a new rule of
`--stop` an entry in `stopping.py`, a new model an entry in `presets.py`.
"""

from evals.config.bidding import BIDS, FRONTIER, VOTE_UNCERTAINTY, utility_by
from evals.config.calibration import Calibration, MismatchError
from evals.config.defaults import OF_TASK
from evals.config.parse import parse_settings
from evals.config.settings import (
    Experiment,
    ServerSettings,
    Settings,
    digest_prompts,
)
from evals.config.stopping import CONSENSUS, VERIFIER
from evals.config.voting import VoteOptions

__all__ = [
    "BIDS",
    "CONSENSUS",
    "FRONTIER",
    "OF_TASK",
    "VERIFIER",
    "VOTE_UNCERTAINTY",
    "Calibration",
    "Experiment",
    "MismatchError",
    "ServerSettings",
    "Settings",
    "VoteOptions",
    "digest_prompts",
    "parse_settings",
    "utility_by",
]
