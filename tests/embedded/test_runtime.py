"""The embedded runtime refuses invalid arguments, and never outlives its owner."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from eager_sgl.embedded.address import url_of
from eager_sgl.embedded.arguments import COMMON_ARGUMENTS, CPU_ARGUMENTS, devices_fault
from eager_sgl.embedded.runtime import EmbeddedRuntime
from eager_sgl.errors import RuntimeStartError
from tests.conftest import REASONER
from tests.embedded.running import START_SECONDS, running
from tests.fakes.waiting import wait_until

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
from eager_sgl.embedded.runtime import EmbeddedRuntime
EmbeddedRuntime(sys.argv[1], log_path=Path(sys.argv[2]))
time.sleep(600)
"""


def write_model(folder: Path) -> Path:
    """A model folder without weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MODEL_CONFIG))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(REASONER / name, folder)
    return folder


def importing(descendants: list[psutil.Process]) -> bool:
    return any(process.memory_info().rss > 100e6 for process in running(descendants))


def scheduling(descendants: list[psutil.Process]) -> bool:
    """Whether SGLang has started its processes: at least the scheduler and the detokenizer."""
    return len(descendants) >= 3


@pytest.mark.parametrize("model_path", ["/no/such/model", "./nor-this", Path("owner/name")])
def test_a_missing_folder_is_refused_at_once(tmp_path: Path, model_path: str | Path) -> None:
    with pytest.raises(RuntimeStartError, match="no model folder"):
        EmbeddedRuntime(model_path, log_path=tmp_path / "runtime.log")
    assert not (tmp_path / "runtime.log").exists()


@pytest.mark.integration
@pytest.mark.parametrize("moment", [importing, scheduling])
def test_nothing_survives_the_kill_of_its_owner(
    tmp_path: Path, moment: Callable[[list[psutil.Process]], bool]
) -> None:
    model_folder = write_model(tmp_path / "model")
    command = [sys.executable, "-c", OWNER, str(model_folder), str(tmp_path / "runtime.log")]
    with subprocess.Popen(command) as owner:
        root = psutil.Process(owner.pid)
        assert wait_until(lambda: moment(root.children(recursive=True)), START_SECONDS)
        descendants = root.children(recursive=True)
        os.kill(owner.pid, signal.SIGKILL)
    assert wait_until(lambda: not running(descendants)), running(descendants)


REFUSED = [
    ({"port": 0}, "port is 0"),
    ({"port": -1}, "port is -1"),
    ({"port": 65_536}, "port is 65536"),
    ({"port": "30000"}, "port is '30000'"),
    ({"port": True}, "port is True"),
    ({"host": ""}, "host is ''"),
    ({"host": None}, "host is None"),
    ({"model_path": "elsewhere"}, "model_path is the runtime's own argument"),
    ({"api_key": ""}, "API key is empty"),
    ({"api_key": "clé"}, r"character 2 of the API key is U\+00E9"),
    ({"api_key": "two words"}, "character 3 of the API key"),
    ({"api_key": 7}, "API key is a int"),
    ({"random_seed": -1}, "random_seed is -1"),
    ({"random_seed": 2**32}, "random_seed is 4294967296"),
    ({"random_seed": 1.0}, "random_seed is 1.0"),
    ({"random_seed": "0"}, "random_seed is '0'"),
    ({"skip_tokenizer_init": True}, "tokenised by the server"),
    ({"disable_radix_cache": True}, "generated anew"),
    ({"encoder_only": True}, "generates nothing"),
    ({"disaggregation_mode": "prefill"}, "prefill and to decode"),
    ({"nnodes": 2}, "on this machine alone"),
    ({"node_rank": 1}, "on this machine alone"),
    ({"tokenizer_worker_num": 2}, "no API key with several"),
    ({"log_level": "error"}, "must be 'info' or 'debug'"),
    ({"log_level": "warning"}, "must be 'info' or 'debug'"),
    ({"ssl_certfile": "cert.pem", "ssl_keyfile": "key.pem"}, "plain HTTP"),
    ({"smg_grpc_mode": True}, "plain HTTP"),
    ({"use_ray": True}, "outlive the runtime"),
    ({"tp_size": 0}, "tp_size is 0"),
    ({"page_size": 0}, "page_size is 0"),
    ({"context_length": -5}, "context_length is -5"),
    ({"context_length": 512.0}, "context_length is 512.0"),
    ({"max_running_requests": 0}, "max_running_requests is 0"),
    ({"max_total_tokens": "many"}, "max_total_tokens is 'many'"),
    ({"mem_fraction_static": 1.5}, "mem_fraction_static is 1.5"),
    ({"prot": 30_000}, "no server argument 'prot'; did you mean 'port'"),
    ({"max_runing_requests": 8}, "did you mean 'max_running_requests'"),
    ({"threshold": 0.7}, "no server argument 'threshold'"),
    ({"custom_sigquit_handler": print}, "cannot be passed"),
    ({"served_model_name": object()}, "cannot be passed"),
]


@pytest.mark.parametrize(("server_args", "words"), REFUSED)
def test_server_arguments_are_refused_before_anything_starts(
    tmp_path: Path, server_args: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        EmbeddedRuntime(REASONER, log_path=tmp_path / "runtime.log", server_args=server_args)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runtime.log").exists()


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_launch_timeout_must_be_above_zero(tmp_path: Path, timeout: float) -> None:
    with pytest.raises(ValueError, match="launch_timeout"):
        EmbeddedRuntime(REASONER, log_path=tmp_path / "runtime.log", launch_timeout=timeout)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_in_use_is_reported_at_once(tmp_path: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeStartError, match=f"port {port} of {host} .*in use"):
            EmbeddedRuntime(
                REASONER,
                log_path=tmp_path / "runtime.log",
                server_args={"host": host, "port": port},
            )
    assert not (tmp_path / "runtime.log").exists()


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "2001:db8::1"])
def test_a_host_of_another_machine_is_reported_at_once(tmp_path: Path, host: str) -> None:
    (tmp_path / "runtime.log").write_text("of an earlier run: address already in use")
    with pytest.raises(RuntimeStartError, match=f"host '{host}'"):
        EmbeddedRuntime(REASONER, log_path=tmp_path / "runtime.log", server_args={"host": host})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("::1", "http://[::1]:1"),
        ("localhost", "http://localhost:1"),
    ],
)
def test_the_url_is_that_of_this_machine(host: str, url: str) -> None:
    assert url_of(host, 1) == url


@pytest.mark.parametrize(
    ("arguments", "num_devices", "words"),
    [
        ({"device": "cpu"}, 0, None),
        ({"device": "cuda"}, 0, "no accelerator"),
        ({"device": None}, 0, "no accelerator"),
        ({"device": "cpu", "tp_size": 2}, 0, "2 devices, but this machine has only its CPU"),
        ({"device": "cpu", "dp_size": 2}, 0, "2 devices"),
        ({}, 1, None),
        ({"device": "cuda", "tp_size": 1}, 1, None),
        ({"device": "cpu"}, 1, "has an accelerator"),
        ({"tp_size": 2, "pp_size": 2}, 2, "4 devices, but this machine has 2"),
        ({"tp_size": 2}, 2, None),
    ],
)
def test_missing_devices_are_reported(
    arguments: dict[str, object], num_devices: int, words: str | None
) -> None:
    fault = devices_fault(arguments, num_devices)
    assert fault is None if words is None else words in str(fault)


@pytest.mark.integration
def test_the_fields_of_the_server_are_known() -> None:
    import msgspec
    from sglang.srt.server_args import ServerArgs

    from eager_sgl.embedded.arguments import CHECKED, FIXED, _field_names

    assert _field_names() == {field.name for field in msgspec.structs.fields(ServerArgs)}
    assert _field_names() >= {*COMMON_ARGUMENTS, *CPU_ARGUMENTS, *CHECKED, *FIXED}
