"""A table of faults and their effect on a run, tried on the real runtime.

    python -m tests.faults.table                        # this checkout; `make faults`
    python -m tests.faults.table --checkout ../other    # another checkout, with its environment
    python -m tests.faults.table --only away hang

A scenario is a run of 48 prompts with two methods, 96 results, against the same embedded server,
often behind a proxy that injects the fault. The columns are the number of results that were kept,
recorded as failed and lost, the seconds until the fault was reported, and the line that did.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from eager_sgl import EmbeddedRuntime
from eager_sgl.engine.limits import SMALL_TIMEOUT, Patience
from eager_sgl.engine.loop import run
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import ServerError
from tests.faults.proxy import QUICK, fault_proxy
from tests.faults.subject import (
    API_KEY,
    NUM_PROMPTS,
    Outcome,
    Subject,
    count_lines,
)

ROOT = Path(__file__).parents[2]
REASONER = ROOT / "evals" / "reasoner" / "model"
AWAY_SECONDS = 3.0
NUM_BEFORE = 10  # results before a fault is caused
LIMIT_SECONDS = 10
LIMITS = ("--request-timeout", str(LIMIT_SECONDS), "--silence-timeout", str(LIMIT_SECONDS))

_TOKENS = """
from eager_sgl import Client, EagerConfig, EagerInit
client, outcomes = Client("{url}", api_key="{key}"), []
for prompt in ([120], [-1], [10**9], b"abc"):
    try:
        config = EagerConfig(threshold=0.7, max_sequences=2)
        client.generate(prompt, EagerInit(config))
        outcomes.append(f"{{prompt}} is accepted")
    except Exception as error:
        outcomes.append(f"{{type(error).__name__}}: {{error}}")
print("; ".join(outcomes))
"""
_FORK = """
import multiprocessing
from eager_sgl import connect
endpoint = connect("{url}", api_key="{key}")
def work():
    try:
        print("tokens:", endpoint.encode("make"), flush=True)
    except Exception as error:
        print("error:", type(error).__name__, error, flush=True)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join(60)
print("the child hangs: failed" if child.is_alive() else "the child ended")
child.kill()
"""
Scenario = Callable[[Subject, str], Outcome]


def _mixed(probability: float) -> Scenario:
    def run(subject: Subject, url: str) -> Outcome:
        with fault_proxy(url, probability, kinds=QUICK) as (proxied, proxy):
            outcome = subject.run(f"mixed_{probability}", "--server", proxied)
        print(f"  {proxy.num_requests} requests, injected {dict(proxy.injected)}", file=sys.stderr)
        return outcome

    return run


def _always(kind: str, probability: float) -> Scenario:
    def run(subject: Subject, url: str) -> Outcome:
        with fault_proxy(url, probability, kinds=[kind]) as (proxied, _):
            return subject.run(f"{kind}_{probability}", "--server", proxied, *LIMITS)

    return run


def _away(seconds: float) -> Scenario:
    """A server that disappears during a run, and returns after some seconds."""

    def run(subject: Subject, url: str) -> Outcome:
        name, is_over = f"away_{seconds:g}", threading.Event()
        with fault_proxy(url, 0.0) as (proxied, _):
            port = int(proxied.rpartition(":")[2])

        def serve() -> None:
            with fault_proxy(url, 0.0, port=port):
                _await_results(subject.folder / name)
            is_gone.set()
            if not is_over.wait(seconds):
                with fault_proxy(url, 0.0, port=port):
                    is_over.wait()

        def fault(process: subprocess.Popen[str]) -> float:
            is_gone.wait()
            return time.monotonic()

        is_gone = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        time.sleep(1)
        outcome = subject.run(name, "--server", proxied, fault=fault)
        is_over.set()
        thread.join()
        return outcome

    return run


def _killed(name: str) -> Scenario:
    """An embedded server with a process that is killed during the run."""

    def run(subject: Subject, url: str) -> Outcome:
        def fault(process: subprocess.Popen[str]) -> float:
            _await_results(subject.folder / name)
            for child in psutil.Process(process.pid).children(recursive=True):
                if name in " ".join(child.cmdline()):
                    child.kill()
            return time.monotonic()

        return subject.run(name, fault=fault)

    return run


def _terminated(subject: Subject, url: str) -> Outcome:
    def fault(process: subprocess.Popen[str]) -> float:
        _await_results(subject.folder / "sigterm")
        process.send_signal(signal.SIGTERM)
        return time.monotonic()

    return subject.run("sigterm", "--server", url, fault=fault)


def _options(name: str, *options: str) -> Scenario:
    return lambda subject, url: subject.run(name, "--server", url, *options)


def _script(text: str) -> Scenario:
    return lambda subject, url: subject.script(text.format(url=url, key=API_KEY))


def _seeds(subject: Subject, url: str) -> Outcome:
    return subject.run("seeds", "--seeds", "-1")


def _too_long(subject: Subject, url: str) -> Outcome:
    """A prompt of the 48 is longer than the model's context."""
    prompts = ["make 02 from 03 08 03 18"] * NUM_PROMPTS
    prompts[7] = "make 02 from" + " 03" * 5000
    lines = [json.dumps({"id": f"p{i}", "prompt": text}) for i, text in enumerate(prompts)]
    path = subject.folder / "prompts.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return subject.run("too_long", "--server", url, "--task", str(path))


def _verifier(name: str, result: str) -> Scenario:
    """A broken verifier of the user."""

    def run(subject: Subject, url: str) -> Outcome:
        module = subject.checkout / "faulty_verifier.py"
        module.write_text(f"def verify(sample, text):\n    return {result}\n")
        try:
            options = "--verifier", "faulty_verifier:verify"
            return subject.run(f"verifier_{name}", "--server", url, *options)
        finally:
            module.unlink()

    return run


def _corrupt(subject: Subject, url: str) -> Outcome:
    """A run's folder whose file of results has a blank and a truncated line in the middle."""
    output = subject.folder / "corrupt"
    subject.run("corrupt", "--server", url)
    path = output / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3], lines[5] = b"\n", lines[5][: len(lines[5]) // 2] + b"\n"
    path.write_bytes(b"".join(lines))
    return subject.run("corrupt", "--server", url)


def _await_results(folder: Path) -> None:
    """Wait until some results exist."""
    deadline = time.monotonic() + 180
    while count_lines(folder / "results.jsonl") < NUM_BEFORE and time.monotonic() < deadline:
        time.sleep(0.05)


SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "mixed_0.005": ("0.5 % mixed faults", _mixed(0.005)),
    "mixed_0.05": ("5 % mixed faults", _mixed(0.05)),
    "mixed_0.2": ("20 % mixed faults", _mixed(0.2)),
    "away": (f"server away for {AWAY_SECONDS:g} s", _away(AWAY_SECONDS)),
    "gone": ("server gone for good", _away(1e9)),
    "hang_connect": ("every request hangs, from the first on", _always("hang", 1.0)),
    "hang": (f"5 % of requests hang; limits of {LIMIT_SECONDS} s", _always("hang", 0.05)),
    "trickle": (f"5 % of answers trickle; limits of {LIMIT_SECONDS} s", _always("trickle", 0.05)),
    "shape": ("every answer has another shape", _always("shape", 1.0)),
    "top_k": (
        "K above the vocabulary, chunk monitor",
        _options("top_k", "--top-k", "500", "--monitor", "chunk"),
    ),
    "tokens": ("token ids outside the vocabulary", _script(_TOKENS)),
    "seeds": ("--seeds -1, embedded server", _seeds),
    "too_long": ("one prompt does not fit", _too_long),
    "fork": ("the endpoint in a forked child", _script(_FORK)),
    "detokenizer": ("embedded detokenizer killed", _killed("detokenizer")),
    "scheduler": ("embedded scheduler killed", _killed("scheduler")),
    "sigterm": ("SIGTERM", _terminated),
    "verifier_nan": ("a verifier gives NaN", _verifier("nan", "float('nan')")),
    "verifier_raises": ("a verifier raises", _verifier("raises", "1 / 0")),
    "corrupt": ("a blank and a truncated line in results.jsonl", _corrupt),
}


class Server:
    """An embedded server that is restarted when it no longer generates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runtime = self._start()

    def _start(self) -> EmbeddedRuntime:
        arguments = {"api_key": API_KEY}
        log_path = self._folder / "runtime.log"
        return EmbeddedRuntime(REASONER, log_path=log_path, server_args=arguments)

    @property
    def url(self) -> str:
        return self._runtime.url

    def survives(self) -> bool:
        """Whether it still generates; if not, it is restarted."""
        body = {"input_ids": [1], "sampling_params": {"max_new_tokens": 1}}
        once = Patience((), timeout=SMALL_TIMEOUT)
        try:
            run(Transport(self.url, api_key=API_KEY).post("/generate", lambda: body, patience=once))
            return True
        except ServerError:
            self.close()
            self._runtime = self._start()
            return False

    def close(self) -> None:
        self._runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A table of faults and their effect on a run.")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="root of another checkout")
    parser.add_argument("--only", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    options = parser.parse_args()
    os.environ["EAGER_SGL_API_KEY"] = API_KEY
    print("| fault | kept | failed | lost | seconds until reported | exit | server | words |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        for key in options.only:
            title, scenario = SCENARIOS[key]
            outcome = scenario(Subject(options.checkout.resolve(), Path(name)), server.url)
            state = "lives" if server.survives() else "dead"
            print(_row(title, outcome, state), flush=True)
        server.close()


def _row(title: str, outcome: Outcome, state: str) -> str:
    code = "none" if outcome.exit_code is None else str(outcome.exit_code)
    numbers = (outcome.num_kept, outcome.num_failed, outcome.num_lost)
    counts = " | ".join(map(str, numbers)) if outcome.is_run else "– | – | –"
    words = outcome.words.replace("|", "/")[:300]
    return f"| {title} | {counts} | {outcome.seconds:.1f} | {code} | {state} | {words} |"


if __name__ == "__main__":
    main()
