"""The environment variables of the server's process."""

from __future__ import annotations

import os
from pathlib import Path

from eager_sgl.embedded.address import DEFAULT_HOST, reached_at
from eager_sgl.embedded.arguments import Arguments

__all__ = ["server_environment"]


def server_environment(arguments: Arguments, scratch: str) -> dict[str, str]:
    """This process's variables, with changes that make a start faster or safer.

    Args:
        arguments: of the server.
        scratch: a folder for its temporary files.
    """
    variables = dict(os.environ)
    # Containers often set this one; without compiled modules every start takes a minute longer.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables["TMPDIR"] = scratch
    # SGLang sends a warm-up request to its own address, which no proxy can reach.
    address = reached_at(arguments.get("host", DEFAULT_HOST))
    no_proxy = [variables.get("no_proxy") or variables.get("NO_PROXY"), address]
    variables["no_proxy"] = variables["NO_PROXY"] = ",".join(filter(None, no_proxy))
    # Each /health would otherwise generate a token and take a second.
    variables.setdefault("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION", "0")
    # A grammar may allow no token of a small vocabulary: then its request fails, not the server.
    variables.setdefault("SGLANG_SANITIZE_NAN_LOGITS", "1")
    folders = [arguments["model_path"], arguments.get("tokenizer_path")]
    if all(Path(folder).exists() for folder in folders if folder):
        variables |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return variables
