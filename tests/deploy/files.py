"""The files in `deploy`, read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

__all__ = ["COMPOSE", "DOCKERFILE", "FOLDER", "KUBERNETES", "PROMETHEUS", "instructions", "stage"]

FOLDER = Path(__file__).parents[2] / "deploy"
COMPOSE: Any = yaml.safe_load((FOLDER / "compose.yaml").read_text())
PROMETHEUS: Any = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
KUBERNETES: dict[tuple[str, str], Any] = {
    (resource["kind"], resource["metadata"]["name"]): resource
    for resource in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
}
"""The resources by kind and name."""
DOCKERFILE = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")


def stage(name: str) -> str:
    """The instructions of a stage of the Dockerfile, a line each."""
    _, _, after = DOCKERFILE.partition(f" AS {name}\n")
    return after.partition("\nFROM ")[0]


def instructions(name: str, word: str) -> list[list[str]]:
    """The words of all instructions of a kind in a stage."""
    lines = re.findall(rf"^ *{word} (.*)$", stage(name), re.MULTILINE)
    return [json.loads(line) if line.startswith("[") else shlex.split(line) for line in lines]
