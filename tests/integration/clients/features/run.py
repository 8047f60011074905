"""Runs the cases of a client and examples of the pages in one process, in the clients' environment.

`python -m tests.integration.clients.features.run CLIENT URL MODEL [EXAMPLE.py …]` prints a line of
JSON for each.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from tests.integration.clients.features.endpoint import Endpoint


def main() -> None:
    """Run all cases, whatever becomes of the others."""
    client, url, model, *examples = sys.argv[1:]
    endpoint = Endpoint(url, model)
    cases = import_module(f"tests.integration.clients.features.{client}").CASES
    for case in cases:
        _report(case.__name__, partial(case, endpoint))
    for example in examples:
        _report(Path(example).stem, partial(runpy.run_path, example, run_name="__main__"))


def _report(name: str, run: Callable[[], object]) -> None:
    error = None
    with contextlib.redirect_stdout(sys.stderr):
        try:
            run()
        except Exception as problem:
            traceback.print_exc()
            error = f"{type(problem).__name__}: {problem}"
    print(json.dumps({"feature": name, "error": error}), flush=True)


if __name__ == "__main__":
    main()
