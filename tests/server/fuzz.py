"""Thousands of malformed and hostile requests to the endpoint: `python -m tests.server.fuzz`.

The exit status is 1 if the endpoint fails at one, answers in another form than OpenAI's, or does
not answer; the smallest such request is printed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import httpx
from hypothesis import HealthCheck, given, seed, settings

from tests.fakes.scripted import ScriptedServer, mixed_distribution
from tests.server.hostile import Hostile, fault_of, requests
from tests.server.upstream import MODEL, endpoint


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.server.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    statuses: Counter[int] = Counter()
    with (
        endpoint(ScriptedServer(mixed_distribution(42))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        client.event_hooks["response"] = [lambda reply: statuses.update([reply.status_code])]

        @seed(options.seed)
        @settings(
            max_examples=options.requests,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(requests)
        def is_well(hostile: Hostile) -> None:
            fault = fault_of(client, hostile)
            assert fault is None, f"{fault}\nof {hostile}"[:3000]

        try:
            is_well()
        finally:
            print(f"{statuses.total()} answers by status: {dict(sorted(statuses.items()))}")
        body = {"model": MODEL, "prompt": [9], "max_tokens": 2}
        if client.post("/v1/completions", json=body).status_code != 200:
            sys.exit("the endpoint no longer answers a plain request")
        lines = client.get("/metrics").text.splitlines()
        running = [line for line in lines if line.startswith("eager_requests_in_flight ")]
        print(*running)
        if running != ["eager_requests_in_flight 0.0"]:
            sys.exit("requests are left in flight")


if __name__ == "__main__":
    main()
