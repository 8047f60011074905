"""The embedded runtime's life: it refuses clearly, and it never outlives its owner."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from eager_sgl.errors import RuntimeStartError
from eager_sgl.runtime import EmbeddedRuntime

GONE_SECONDS = 5.0
START_SECONDS = 120.0

# Small enough to build a server around; the tests end before any weight would be read.
MODEL_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 40,
}

OWNER = """
import sys, time
from pathlib import Path
from eager_sgl.runtime import EmbeddedRuntime
EmbeddedRuntime(sys.argv[1], log_path=Path(sys.argv[2]), server_args={"skip_tokenizer_init": True})
time.sleep(600)
"""


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MODEL_CONFIG))
    return folder


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that only awaits its reaping by init does not."""
    return [each for each in processes if each.is_running() and not is_zombie(each)]


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def importing(descendants: list[psutil.Process]) -> bool:
    return any(each.memory_info().rss > 100e6 for each in running(descendants))


def scheduling(descendants: list[psutil.Process]) -> bool:
    """SGLang has started the processes of its own: at least the scheduler and the detokenizer."""
    return len(descendants) >= 3


@pytest.mark.parametrize("model_path", ["/no/such/model", "./nor-this", Path("owner/name")])
def test_a_missing_folder_is_refused_at_once(tmp_path: Path, model_path: str | Path) -> None:
    with pytest.raises(RuntimeStartError, match="no model folder"):
        EmbeddedRuntime(model_path, log_path=tmp_path / "runtime.log")
    assert not (tmp_path / "runtime.log").exists()


@pytest.mark.integration
def test_a_broken_model_fails_with_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    log_path = tmp_path / "made" / "runtime.log"
    with pytest.raises(RuntimeStartError) as caught:
        EmbeddedRuntime(tmp_path, log_path=log_path, launch_timeout=START_SECONDS)
    last_line = log_path.read_text().splitlines()[-1]
    assert last_line[:100] in str(caught.value)
    assert str(log_path) in str(caught.value)


@pytest.mark.integration
@pytest.mark.parametrize("moment", [importing, scheduling])
def test_nothing_survives_the_kill_of_its_owner(
    tmp_path: Path, model_folder: Path, moment: Callable[[list[psutil.Process]], bool]
) -> None:
    command = [sys.executable, "-c", OWNER, str(model_folder), str(tmp_path / "runtime.log")]
    with subprocess.Popen(command) as owner:
        root = psutil.Process(owner.pid)
        assert wait_until(lambda: moment(root.children(recursive=True)), START_SECONDS)
        descendants = root.children(recursive=True)
        os.kill(owner.pid, signal.SIGKILL)
    assert wait_until(lambda: not running(descendants), GONE_SECONDS), running(descendants)


@pytest.mark.integration
def test_an_interrupted_start_leaves_nothing(tmp_path: Path, model_folder: Path) -> None:
    descendants: list[psutil.Process] = []

    def interrupt(stage: str) -> None:
        if stage == "starting the scheduler":
            assert wait_until(lambda: scheduling(children()), START_SECONDS)
            descendants.extend(children())
            raise KeyboardInterrupt

    others = psutil.Process().children(recursive=True)  # such as the server of other tests

    def children() -> list[psutil.Process]:
        return [p for p in psutil.Process().children(recursive=True) if p not in others]

    with pytest.raises(KeyboardInterrupt):
        EmbeddedRuntime(model_folder, log_path=tmp_path / "runtime.log", on_progress=interrupt)
    assert descendants
    assert not running(descendants)
