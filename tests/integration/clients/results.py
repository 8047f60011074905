"""What the clients do with an endpoint: their cases, and the examples of docs/serving.md."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.clients.environment import variables
from tests.integration.clients.features.endpoint import Endpoint
from tests.pages import Block, page

__all__ = ["CLIENTS", "COMMANDS", "Result", "command_results", "results_of"]

CLIENTS: Mapping[str, tuple[str, str]] = {
    "openai": ("openai_sdk", "openai"),
    "langchain-openai": ("langchain", "langchain_openai"),
    "dspy": ("dspy_lm", "dspy"),
    "inspect-ai": ("inspect_task", "inspect_ai"),
    "lm-eval": ("lm_eval_models", "lm_eval"),
}
"""The module of the cases, and that of the client, by the name of the client's package."""
COMMANDS: Mapping[str, str] = {"curl": "curl", "inspect": "inspect-ai", "lm_eval": "lm-eval"}
"""The client by the command that an example in bash runs."""
SECONDS = 600
_TASKS = f"--include_path {Path(__file__).with_name('tasks')} --tasks"
_MODEL = "Qwen/Qwen3-4B"


@dataclass(frozen=True)
class Result:
    """What became of a case; `error` is None where the client got what it should."""

    client: str
    feature: str
    error: str | None


def results_of(client: str, endpoint: Endpoint, folder: Path) -> list[Result]:
    """The results of a client's cases and of its examples in Python, which one process runs."""
    cases, module = CLIENTS[client]
    examples = [
        str(_written(block, endpoint, folder))
        for block in _examples("python")
        if block.name is None and re.search(rf"^(from|import) {module}\b", block.text, re.MULTILINE)
    ]
    command = ["python", "-m", "tests.integration.clients.features.run", cases]
    ran = _run([*command, endpoint.url, endpoint.model, *examples], folder)
    lines = [line for line in ran.stdout.splitlines() if line.startswith('{"feature"')]
    results = [Result(client, **json.loads(line)) for line in lines]
    return results + ([_failure(client, "process", ran)] if ran.returncode else [])


def command_results(
    endpoint: Endpoint, folder: Path, clients: Collection[str] = tuple(COMMANDS.values())
) -> list[Result]:
    """The results of these clients' examples in bash, beside the files that other examples are."""
    for block in _examples("python"):
        if block.name is not None:
            _written(block, endpoint, folder)
    results = []
    for block in _examples("bash"):
        client = next(client for word, client in COMMANDS.items() if f"{word} " in block.text)
        if client not in clients:
            continue
        ran = _run(["bash", "-e", str(_written(block, endpoint, folder))], folder)
        feature = f"example {block.number}"
        results.append(
            _failure(client, feature, ran) if ran.returncode else Result(client, feature, None)
        )
    return results


def _examples(language: str) -> list[Block]:
    blocks = [block for block in page("docs/serving.md").blocks if block.language == language]
    return [block for block in blocks if block.needs_endpoint or block.name]


def _written(block: Block, endpoint: Endpoint, folder: Path) -> Path:
    """The file of an example, with this endpoint, its model and tasks of ours."""
    suffix = {"python": "py", "bash": "sh"}[block.language]
    path = folder / (block.name or f"example_{block.number}.{suffix}")
    text = block.text.replace("http://localhost:8000", endpoint.url).replace(_MODEL, endpoint.model)
    text = text.replace("completions --tasks gsm8k", "completions --tasks countdown_text")
    text = text.replace(
        "chat-completions --tasks countdown_text", "chat-completions --tasks countdown_chat"
    )
    text = text.replace("--tasks", _TASKS).replace("8192", "200")
    path.write_text(text)
    return path


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=variables(folder),
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
    )


def _failure(client: str, feature: str, ran: subprocess.CompletedProcess[str]) -> Result:
    last = " | ".join((ran.stdout + ran.stderr).strip().splitlines()[-3:])
    return Result(client, feature, f"exit status {ran.returncode}: {last}")
