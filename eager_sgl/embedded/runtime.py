"""An embedded SGLang server: started, watched and ended by this process.

    with EmbeddedRuntime("path/to/model", log_path=Path("run/runtime.log")) as runtime:
        endpoint = connect(runtime.url, api_key=runtime.api_key)

The server lives in a session of its own. We hold the write end of a pipe that it reads: when we
are gone, even by SIGKILL, the pipe ends and the server kills its whole process group.
"""

import atexit
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from eager_sgl.embedded.address import DEFAULT_HOST, is_healthy, reached_at, reserved_port, url_of
from eager_sgl.embedded.arguments import plain_arguments
from eager_sgl.embedded.process import ARGUMENTS_FILE, DEATH_FILE, how_it_ended
from eager_sgl.errors import RuntimeStartError, RuntimeStoppedError

__all__ = ["EmbeddedRuntime"]

POLL_SECONDS = 0.1
CLOSE_SECONDS = 1.0
NUM_ATTEMPTS = 3
NUM_LOG_LINES = 15
MAX_LINE_LENGTH = 300
PORT_TAKEN = "address already in use"

# A piece of SGLang's log (0.5.23) and the stage that begins when it appears.
STAGES = {
    "server_args=": "starting the scheduler",
    "Load weight begin": "loading weights",
    "Load weight end": "allocating the KV pool",
    "Tree cache initialized": "warming up",
}

# A piece of the log, in lower case, and what its reader can do about it.
ADVICE = {
    "out of memory": "free some memory, or pass a smaller max_total_tokens or model",
    "enough memory": "free some memory, or pass a smaller max_total_tokens or model",
    "modulenotfounderror": "install the project's dependencies again",
    "config.json": "check that the model path names a complete Hugging Face model",
    "safetensors": "check that the model's weight files are complete",
    PORT_TAKEN: "stop the program that holds the port, or start again",
}


class EmbeddedRuntime:
    """An SGLang server owned by this process; the constructor returns once it is ready.

    `model_path` is a model folder or a hub id. `server_args` are fields of SGLang's `ServerArgs`
    and override our defaults; `environment` is added to the server's environment variables. `url`
    is where this machine reaches the server, whatever its `host`.
    `on_progress` receives the name of each stage of the start as it begins. The server's output
    goes to `log_path`, which is overwritten.

    The server lets requests bring code of their own (the entropy gate does), so it wants a key:
    `api_key`. SGLang writes it to its log, which only the owner can read.

    Raises `ValueError` for server arguments that SGLang does not know or the runtime cannot work
    with, before anything is started; `RuntimeStartError` when the folder is missing, the port is in
    use, the server stops, or it is not ready within `launch_timeout` seconds. Written for SGLang
    0.5.23.
    """

    url: str
    pid: int
    api_key: str

    def __init__(
        self,
        model_path: str | Path,
        *,
        log_path: str | Path,
        launch_timeout: float = 300.0,
        server_args: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        if not launch_timeout > 0:
            raise ValueError(f"launch_timeout is {launch_timeout}; it must be above 0 seconds")
        arguments = plain_arguments(server_args or {})
        _require_model(model_path)
        self.model_path = str(model_path)
        self.log_path = Path(log_path)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.api_key = arguments.get("api_key") or secrets.token_urlsafe(32)
        self._report = on_progress or (lambda stage: None)
        self._owner_pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = tempfile.mkdtemp(prefix="eager_sgl_")
        arguments |= {"model_path": self.model_path, "api_key": self.api_key}
        self._environment = _environment(arguments, self._scratch) | dict(environment or {})
        atexit.register(self.close)
        try:
            self._launch(arguments, time.monotonic() + launch_timeout)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Do nothing while the server and all of its processes live.

        Costs a system call and a look at a file; a death is known within about a second, and the
        rest of the server ends itself a second later.

        Raises:
            RuntimeStoppedError: the server or one of its processes has died, or it was closed.
        """
        if self._process is None:
            raise RuntimeStoppedError("the embedded runtime was closed")
        if death := self._death(self._process):
            raise RuntimeStoppedError(
                f"the embedded runtime has stopped: {death}; its log is {self.log_path}"
            )

    def close(self) -> None:
        """End the server and every process of its group; further calls do nothing."""
        # A forked copy of this process inherits this object, but does not own the server.
        if os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.close)
        self._end_process()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _launch(self, arguments: Mapping[str, Any], deadline: float) -> None:
        """Start the server and wait for it; again, on other ports, if one of them was taken."""
        host, named_port = arguments.get("host", DEFAULT_HOST), arguments.get("port")
        for attempts_left in reversed(range(NUM_ATTEMPTS if named_port is None else 1)):
            with reserved_port(host, named_port or 0) as port:
                try:
                    self._launch_at(host, port, arguments, deadline)
                    return
                except RuntimeStartError:
                    if not attempts_left or PORT_TAKEN not in self._log_text().lower():
                        raise
                    self._end_process()

    def _launch_at(
        self, host: str, port: int, arguments: Mapping[str, Any], deadline: float
    ) -> None:
        self._process = self._start({**arguments, "host": host, "port": port})
        self.pid = self._process.pid
        self.url = url_of(host, port)
        self._wait_until_ready(self._process, (host, port), deadline)

    def _start(self, arguments: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        (Path(self._scratch) / DEATH_FILE).unlink(missing_ok=True)
        # Not on the command line, which all users of the machine can read.
        (Path(self._scratch) / ARGUMENTS_FILE).write_text(json.dumps(arguments))
        with open(self.log_path, "wb", opener=_private) as log:
            return subprocess.Popen(
                [sys.executable, "-m", "eager_sgl.embedded.process", self._scratch],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def _wait_until_ready(
        self, process: subprocess.Popen[bytes], address: tuple[str, int], deadline: float
    ) -> None:
        stage = "importing SGLang"
        self._report(stage)
        with self.log_path.open(errors="replace") as log:
            while not is_healthy(*address):
                if process.poll() is not None:
                    raise self._start_error(f"stopped while {stage}: {self._death(process)}")
                if time.monotonic() > deadline:
                    raise self._start_error(f"ran out of its launch timeout while {stage}")
                for begun in _stages_begun(log.read()):
                    stage = begun
                    self._report(stage)
                time.sleep(POLL_SECONDS)
        self._report("ready")

    def _death(self, process: subprocess.Popen[bytes]) -> str | None:
        """A clause on the process that died first, if one has."""
        with contextlib.suppress(FileNotFoundError):
            return (Path(self._scratch) / DEATH_FILE).read_text()
        # A forked copy of this process is not told of the end of the server itself.
        if os.getpid() != self._owner_pid or process.poll() is None:
            return None
        return f"the server died ({how_it_ended(process.returncode)})"

    def _start_error(self, what: str) -> RuntimeStartError:
        text = self._log_text()
        lines = text.splitlines()[-NUM_LOG_LINES:]
        tail = "\n".join("  " + line[:MAX_LINE_LENGTH] for line in lines)
        advice = [hint for mark, hint in ADVICE.items() if mark in tail.lower()]
        hints = "; ".join(dict.fromkeys([*advice, f"read the whole log in {self.log_path}"]))
        return RuntimeStartError(
            f"The SGLang runtime for {self.model_path} {what}. The end of its log:\n"
            f"{tail or '  (empty)'}\nWhat to try: {hints}."
        )

    def _log_text(self) -> str:
        return self.log_path.read_text(errors="replace")

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end_group(process)


def _private(path: str, flags: int) -> int:
    """Open a file that nobody else can read, even if it was there and they could."""
    file = os.open(path, flags, 0o600)
    os.fchmod(file, 0o600)
    return file


def _require_model(model_path: str | Path) -> None:
    """Refuse what looks like a local path and names no folder; a hub id (`owner/name`) passes."""
    text = str(model_path)
    is_local = isinstance(model_path, Path) or text.startswith(("/", ".", "~"))
    if (is_local or text.count("/") != 1) and not Path(model_path).exists():
        raise RuntimeStartError(
            f"There is no model folder {text!r}; pass the path of one, or a hub id (owner/name)."
        )


def _environment(arguments: Mapping[str, Any], scratch: str) -> dict[str, str]:
    """The server's environment variables: ours, changed where a start gets quicker or safer."""
    variables = dict(os.environ)
    # Containers often set this one; without compiled modules every start takes a minute longer.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables["TMPDIR"] = scratch
    # SGLang's warm-up request goes to its own address, which no proxy can reach.
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


def _stages_begun(log_text: str) -> list[str]:
    return [stage for mark, stage in STAGES.items() if mark in log_text]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the pipe, so that the group ends itself; kill what is left of it after a moment."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(CLOSE_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + CLOSE_SECONDS
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _group_lives(group: int) -> bool:
    """Whether any process of the group still runs (a dead one may await its reaping by init)."""
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(candidate.pid) == group and candidate.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
