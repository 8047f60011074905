"""Asks a server for the answers of a contender; runs in the peers' environment.

This package is not installed there, but found by `PYTHONPATH`.

A job comes on standard input, and the answers go to standard output, as JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import sys
import time
import types
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evals.peers.answers import projection

Job = dict[str, Any]
Ask = Callable[[Any], Awaitable[tuple[str, int]]]
"""The text of the answer to messages, and the tokens that the contender counts."""
_ITS_HUB = {
    "its_hub": ("self_consistency", "SelfConsistency"),
    "its_hub_beta": ("beta_self_consistency", "BetaSelfConsistency"),
    "its_hub_adaptive": ("adaptive_self_consistency", "AdaptiveSelfConsistency"),
}


def main() -> None:
    """Do the job."""
    json.dump(asyncio.run(_answers(json.load(sys.stdin))), sys.stdout)


async def _answers(job: Job) -> Job:
    """Texts and counted tokens by prompt, and seconds for all."""
    ask, slots = _contender(job), asyncio.Semaphore(job["at_once"])

    async def answer(messages: Any) -> tuple[str, int]:
        async with slots:
            return await ask(messages)

    began = time.perf_counter()
    answers = await asyncio.gather(*map(answer, job["prompts"]))
    seconds = time.perf_counter() - began
    return {"texts": [a[0] for a in answers], "counted": [a[1] for a in answers]} | {
        "seconds": seconds
    }


def _contender(job: Job) -> Ask:
    if job["contender"] in _ITS_HUB:
        return _its_hub(job, *_ITS_HUB[job["contender"]])
    return _optillm(job) if job["contender"] == "optillm" else _eager(job)


def _its_hub(job: Job, module: str, name: str) -> Ask:
    algorithms = importlib.import_module(f"its_hub.core.algorithms.{module}")
    lms = importlib.import_module("its_hub.core.lms.openai_lm")
    types_ = importlib.import_module("its_hub.api.types")
    orchestrators = importlib.import_module("its_hub.core.orchestrator")
    lm = lms.OpenAICompatibleLanguageModel(
        endpoint=job["url"] + "/v1",
        api_key=job["api_key"],
        model_name=job["model"],
        temperature=job["temperature"],
        max_completion_tokens=job["max_tokens"],
    )
    algorithm = getattr(algorithms, name)(
        consistency_space_projection_func=projection,
        orchestrator=orchestrators.LMOrchestrator(max_concurrency=-1),
    )

    async def ask(messages: Any) -> tuple[str, int]:
        chat = [types_.ChatMessage.from_dict(message) for message in messages]
        result = await algorithm.ainfer(lm, chat, job["budget"], return_response_only=False)
        usage = result.usage
        return result.the_one["content"] or "", usage.completion_tokens

    return ask


def _optillm(job: Job) -> Ask:
    """Its approach on a thread for every prompt, as in its server; it samples at temperature 1."""
    # Its package imports a server with torch and flask, which the module does not need.
    package = types.ModuleType("optillm")
    spec = importlib.util.find_spec("optillm")
    assert spec is not None
    assert spec.origin is not None
    package.__path__ = [str(Path(spec.origin).parent)]
    sys.modules["optillm"] = package
    module = importlib.import_module("optillm.self_consistency")
    openai = importlib.import_module("openai")
    client = openai.OpenAI(base_url=job["url"] + "/v1", api_key=job["api_key"], timeout=600)
    threads = ThreadPoolExecutor(job["at_once"])

    def run(messages: Any) -> tuple[str, int]:
        approach = module.AdvancedSelfConsistency(
            _Plain(client),
            job["model"],
            num_samples=job["budget"],
            request_config={"max_tokens": job["max_tokens"]},
        )
        result = approach.evaluate("", messages[-1]["content"])
        clusters = result["aggregated_result"]["clusters"]
        text = clusters[0]["answer"] if clusters else ""
        return text, approach.self_consistency_completion_tokens

    async def ask(messages: Any) -> tuple[str, int]:
        return await asyncio.get_running_loop().run_in_executor(threads, run, messages)

    return ask


class _Plain:
    """A client that leaves out empty system messages, which the model's template does not know."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.chat = self.completions = self

    def create(self, messages: Any, **fields: Any) -> Any:
        given = [message for message in messages if message["content"]]
        return self._client.chat.completions.create(messages=given, **fields)


def _eager(job: Job) -> Ask:
    """A method of the endpoint, by OpenAI's client."""
    openai = importlib.import_module("openai")
    client = openai.AsyncOpenAI(base_url=job["url"] + "/v1", api_key="none", timeout=600)
    method, _, _ = job["contender"].partition("+")
    options = {"max_sequences": job["budget"]} | job["options"]

    async def ask(messages: Any) -> tuple[str, int]:
        answer = await client.chat.completions.create(
            model=f"{job['model']}:{method}",
            messages=messages,
            temperature=job["temperature"],
            max_tokens=job["max_tokens"],
            extra_body={"eager": options},
        )
        text = answer.choices[0].message.content if answer.choices else ""
        return text or "", answer.usage.completion_tokens

    return ask


if __name__ == "__main__":
    main()
