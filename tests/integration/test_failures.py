"""Prompts that fail on the real runtime: the others finish, and the same command retries them."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from eager_sgl.engine.frontend.endpoint import connect
from evals.tasks import find_task
from tests.faults.proxy import FaultProxy, serving
from tests.integration.driver import Driver, Ended, lines

pytestmark = pytest.mark.integration

NUM_PROMPTS, MAX_SEQUENCES = 6, 4
METHODS = ("parallel", "eager_init", "eager_adapt", "eager")


class Refusing(FaultProxy):
    """Refuses all requests for tokens of some prompts."""

    def __init__(self, upstream: str, refused: list[tuple[int, ...]]) -> None:
        super().__init__(upstream, probability=0)
        self._refused = refused

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/generate":
            ids = tuple(json.loads(await request.read())["input_ids"])
            if any(ids[: len(prompt)] == prompt for prompt in self._refused):
                return web.Response(status=400, text="this prompt is refused")
        return await super()._handle(request)


def failures(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


def run(driver: Driver, url: str, folder: Path, *more: str) -> Ended:
    swept = ("--max-sequences", str(MAX_SEQUENCES))
    return driver.run("--server", url, *swept, *more, output_dir=folder)


def test_prompts_that_are_refused_fail_alone_and_are_tried_again(
    server_url: str, tmp_path: Path, driver: Driver
) -> None:
    samples = find_task("countdown").load(NUM_PROMPTS, None, 0)
    chosen = [samples[1], samples[4]]
    endpoint = connect(server_url)
    refused = [endpoint.encode(sample.prompt) for sample in chosen]
    with serving(Refusing(server_url, refused)) as url:
        done = run(driver, url, tmp_path, "--limit", str(NUM_PROMPTS))
    assert done.code == 3, done.errors
    assert done.errors.startswith("error: 8 results failed, see ")
    names = {sample.id for sample in chosen}
    assert {(failure["method"], failure["sample_id"]) for failure in failures(tmp_path)} == {
        (method, name) for method in ("parallel", "eager_init") for name in names
    }
    assert all("this prompt is refused" in failure["reason"] for failure in failures(tmp_path))
    before = lines(tmp_path)
    assert len(before) == len(METHODS) * (NUM_PROMPTS - len(names))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["partial"], summary["num_failed"]) == (True, 8)
    again = run(driver, server_url, tmp_path, "--limit", str(NUM_PROMPTS))
    assert (again.code, again.errors) == (0, "")
    results = lines(tmp_path)
    assert results[: len(before)] == before
    assert {line["sample_id"] for line in results[len(before) :]} == names
    for method in METHODS[1:]:
        of_method = [line for line in results if line["method"] == method]
        assert len(of_method) == NUM_PROMPTS
        assert sum(len(line["sequences"]) for line in of_method) <= MAX_SEQUENCES * NUM_PROMPTS


def test_a_prompt_that_does_not_fit_fails_before_anything_is_generated(
    server_url: str, tmp_path: Path, driver: Driver
) -> None:
    context = connect(server_url).profile.context_length
    sample = find_task("countdown").load(1, None, 0)[0].prompt[0]["content"]
    texts = {"short": sample, "long": "1 " * context, "other": sample, "very long": "12 " * 9999}
    of_method = tmp_path / "own.jsonl"
    of_method.write_text(
        "".join(json.dumps({"id": i, "prompt": t}) + "\n\n" for i, t in texts.items())
    )
    methods = ("--methods", "eager_init", "--theta", "0.7", "--max-new-tokens", "64")
    done = run(driver, server_url, tmp_path / "run", "--task", str(of_method), *methods)
    assert done.code == 3, done.errors
    said = " ".join(done.output.split())
    assert "2 prompts cannot be given to the model: " in said
    assert f"leaves no room in the model's context of {context}" in said
    results = {failure["sample_id"]: failure for failure in failures(tmp_path / "run")}
    assert {name: failure["line"] for name, failure in results.items()} == {
        "long": 3,
        "very long": 7,
    }
    assert {failure["generated"] for failure in results.values()} == {0}
    assert {line["sample_id"] for line in lines(tmp_path / "run")} == {"short", "other"}
