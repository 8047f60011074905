"""The server's log: the stages of a start, and advice on its errors."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["PORT_TAKEN", "end_of_log", "open_private", "read_log", "stages_in"]

NUM_LINES = 15
MAX_LINE_LENGTH = 300
PORT_TAKEN = "address already in use"

# Text in SGLang's log (0.5.23) and the stage that it starts.
STAGES = {
    "server_args=": "starting the scheduler",
    "Load weight begin": "loading weights",
    "Load weight end": "allocating the KV pool",
    "Tree cache initialized": "warming up",
}

# Text in the log, in lower case, and the remedy.
ADVICE = {
    "out of memory": "free some memory, or pass a smaller max_total_tokens or model",
    "enough memory": "free some memory, or pass a smaller max_total_tokens or model",
    "modulenotfounderror": "install the project's dependencies again",
    "config.json": "check that the model path names a complete Hugging Face model",
    "safetensors": "check that the model's weight files are complete",
    PORT_TAKEN: "stop the program that holds the port, or start again",
}


def open_private(path: str, flags: int) -> int:
    """An opener for `open` that makes a file readable for its owner alone, even if it exists."""
    file = os.open(path, flags, 0o600)
    os.fchmod(file, 0o600)
    return file


def read_log(path: Path) -> str:
    """The whole log."""
    return path.read_text(errors="replace")


def stages_in(text: str) -> list[str]:
    """The stages that start in a part of the log."""
    return [stage for mark, stage in STAGES.items() if mark in text]


def end_of_log(path: Path) -> str:
    """The log's last lines and advice, for the message of an error."""
    lines = read_log(path).splitlines()[-NUM_LINES:]
    tail = "\n".join("  " + line[:MAX_LINE_LENGTH] for line in lines)
    advice = [hint for mark, hint in ADVICE.items() if mark in tail.lower()]
    hints = "; ".join(dict.fromkeys([*advice, f"read the whole log in {path}"]))
    return f"The end of its log:\n{tail or '  (empty)'}\nWhat to try: {hints}."
