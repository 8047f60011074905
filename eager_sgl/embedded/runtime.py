"""An embedded SGLang server: this process starts, supervises and ends it.

    with EmbeddedRuntime("path/to/model", log_path=Path("run/runtime.log")) as runtime:
        endpoint = connect(runtime.url, api_key=runtime.api_key)

The server runs in its own session, and reads a pipe whose write end this process holds. When this
process ends, even by SIGKILL, the pipe closes and the server kills its whole process group.
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
from typing import Self

import psutil

from eager_sgl.embedded.address import DEFAULT_HOST, reserved_port, url_of
from eager_sgl.embedded.arguments import Arguments, plain_arguments
from eager_sgl.embedded.environment import server_environment
from eager_sgl.embedded.log import PORT_TAKEN, end_of_log, open_private, read_log, stages_in
from eager_sgl.embedded.process import ARGUMENTS_FILE, DEATH_FILE, how_it_ended
from eager_sgl.engine.loop import run
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import RuntimeStartError, RuntimeStoppedError

__all__ = ["EmbeddedRuntime"]

POLL_SECONDS = 0.1
BEAT_SECONDS = 15.0
"""Between two reports in a stage of the start."""
CLOSE_SECONDS = 1.0
NUM_ATTEMPTS = 3


class EmbeddedRuntime:
    """An SGLang server owned by this process; the constructor returns once the server is ready.

    `model_path` is a model folder or a hub id. `server_args` are fields of SGLang's `ServerArgs`
    and override our defaults; `environment` is added to the server's environment variables. `url`
    is where this machine reaches the server, whatever its `host`.
    `on_progress` receives the name of every stage of the start as it begins, and of a long stage
    also its seconds so far. The server's output is written to `log_path`, which is overwritten.

    All users of this machine can reach the server, so it requires a key: `api_key`. SGLang writes
    it to its log, which only the owner can read.

    Raises `ValueError` for server arguments that SGLang does not know or the runtime cannot work
    with, before anything is started; `RuntimeStartError` if the folder is missing, the port is in
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
        self._environment = server_environment(arguments, self._scratch) | dict(environment or {})
        atexit.register(self.close)
        try:
            self._launch(arguments, time.monotonic() + launch_timeout)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Check that the server and all of its processes live.

        Costs a system call and a look at a file. The death of a process is detected within about a
        second, and the rest of the server ends itself a second later.

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

    def _launch(self, arguments: Arguments, deadline: float) -> None:
        """Start the server and wait for it; again, on other ports, if one of them was taken."""
        host, named_port = arguments.get("host", DEFAULT_HOST), arguments.get("port")
        for attempts_left in reversed(range(NUM_ATTEMPTS if named_port is None else 1)):
            with reserved_port(host, named_port or 0) as port:
                try:
                    self._launch_at(host, port, arguments, deadline)
                    return
                except RuntimeStartError:
                    if not attempts_left or PORT_TAKEN not in read_log(self.log_path).lower():
                        raise
                    self._end_process()

    def _launch_at(self, host: str, port: int, arguments: Arguments, deadline: float) -> None:
        self._process = self._start({**arguments, "host": host, "port": port})
        self.pid = self._process.pid
        self.url = url_of(host, port)
        self._wait_until_ready(self._process, deadline)

    def _start(self, arguments: Arguments) -> subprocess.Popen[bytes]:
        (Path(self._scratch) / DEATH_FILE).unlink(missing_ok=True)
        # Not on the command line, which all users of the machine can read.
        (Path(self._scratch) / ARGUMENTS_FILE).write_text(json.dumps(arguments))
        with open(self.log_path, "wb", opener=open_private) as log:
            return subprocess.Popen(
                [sys.executable, "-m", "eager_sgl.embedded.process", self._scratch],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        transport, stage = Transport(self.url), "importing SGLang"
        self._report(stage)
        began = last = time.monotonic()
        with self.log_path.open(errors="replace") as log:
            while not run(transport.is_healthy()):
                if process.poll() is not None:
                    raise self._start_error(f"stopped while {stage}: {self._death(process)}")
                if time.monotonic() > deadline:
                    raise self._start_error(f"was not ready within launch_timeout, while {stage}")
                for stage in stages_in(log.read()):
                    self._report(stage)
                    began = last = time.monotonic()
                if time.monotonic() - last >= BEAT_SECONDS:
                    last = time.monotonic()
                    self._report(f"{stage}, for {last - began:.0f} s")
                time.sleep(POLL_SECONDS)
        self._report("ready")

    def _death(self, process: subprocess.Popen[bytes]) -> str | None:
        """A clause on the process that died first; None if all live."""
        with contextlib.suppress(FileNotFoundError):
            return (Path(self._scratch) / DEATH_FILE).read_text()
        # A forked copy of this process is not the server's parent, and cannot poll it.
        if os.getpid() != self._owner_pid or process.poll() is None:
            return None
        return f"the server died ({how_it_ended(process.returncode)})"

    def _start_error(self, problem: str) -> RuntimeStartError:
        return RuntimeStartError(
            f"The SGLang runtime for {self.model_path} {problem}. {end_of_log(self.log_path)}"
        )

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end_group(process)


def _require_model(model_path: str | Path) -> None:
    """Refuse what looks like a local path and names no folder; a hub id (`owner/name`) passes."""
    text = str(model_path)
    is_local = isinstance(model_path, Path) or text.startswith(("/", ".", "~"))
    if (is_local or text.count("/") != 1) and not Path(model_path).exists():
        raise RuntimeStartError(
            f"There is no model folder {text!r}; pass the path of a folder, or a hub id "
            "(owner/name)."
        )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, so that the group ends itself; kill the rest of it after a moment."""
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
