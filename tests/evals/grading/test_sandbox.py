"""A program in isolation: what it sees, its limits, and the refusal to run it unisolated."""

import errno
import re
import resource
import struct
from itertools import pairwise
from pathlib import Path

import pytest

from evals.grading.programs import IsolationError, bubblewrap, isolation, sandbox, seccomp
from evals.grading.programs.sandbox import Limits, Outcome, run

SMALL = Limits(
    cpu_seconds=2,
    wall_seconds=20.0,
    memory_bytes=256 << 20,
    num_processes=6,
    file_bytes=1 << 20,
    scratch_bytes=3 << 20,
    num_files=16,
    output_bytes=10_000,
)


def _printed(program: str) -> str:
    outcome = run(program, SMALL)
    assert outcome.stopped is None
    return outcome.output.decode().strip()


def test_a_program_chooses_its_exit_status(isolation: None) -> None:
    assert run("print('é'); raise SystemExit(3)") == Outcome(3, "é\n".encode())


def test_it_sees_only_the_paths_that_python_needs(isolation: None) -> None:
    seen = _printed("import os; print(*sorted(os.environ)); print(*os.listdir())")
    assert "PATH" not in seen.split()
    assert not set(seen.split()) & {"evals", "tests"}
    project = Path(sandbox.__file__).parents[3]
    # The folder itself may be visible, as a parent of numpy in its virtual environment.
    hidden = [
        project / "evals",
        project / "README.md",
        Path.home() / ".bashrc",
        Path("/etc/passwd"),
        "/proc",
    ]
    assert (
        _printed(f"import os; print(any(map(os.path.exists, {list(map(str, hidden))})))") == "False"
    )


def test_it_is_not_root_and_sees_no_other_process(isolation: None) -> None:
    assert int(_printed("import os; print(os.getuid())")) != 0
    assert int(_printed("import os; print(os.getpid())")) < 10


def test_processes_are_counted(isolation: None) -> None:
    program = """
import os, time
num_forks = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        num_forks += 1
except OSError as error:
    print(num_forks, error.errno)
"""
    num_forks, number = map(int, _printed(program).split())
    assert num_forks < SMALL.num_processes
    assert number == errno.EAGAIN


def test_scratch_and_files_are_limited(isolation: None) -> None:
    program = """
def write(name, num_bytes):
    try:
        with open(name, "wb") as file:
            file.write(bytes(num_bytes))
        return 0
    except OSError as error:
        return error.errno

files = []
try:
    while True:
        files.append(open("/dev/null"))
except OSError as error:
    number = error.errno
del files
print(number, write("a", 2 << 20), *(write(str(i), 1 << 20) for i in range(4)))
"""
    numbers = [int(number) for number in _printed(program).split()]
    assert numbers[:2] == [errno.EMFILE, errno.EFBIG]
    assert numbers[-1] == errno.ENOSPC


def test_memory_is_limited(isolation: None) -> None:
    program = "try: bytearray(1 << 29)\nexcept MemoryError: print('refused')"
    assert _printed(program) == "refused"


def test_time_is_limited(isolation: None) -> None:
    assert run("while True: pass", SMALL).status == 128 + 24  # SIGXCPU
    limits = Limits(wall_seconds=0.5)
    assert run("import time; time.sleep(60)", limits).stopped == "time limit"


def test_a_program_that_closes_its_output_is_still_limited(isolation: None) -> None:
    program = "import os, time; os.closerange(0, 9); time.sleep(60)"
    assert run(program, Limits(wall_seconds=0.5)).stopped == "time limit"


def test_output_is_limited(isolation: None) -> None:
    outcome = run("while True: print('x' * 100)", SMALL)
    assert outcome.stopped == "output limit"
    assert len(outcome.output) == SMALL.output_bytes


def test_the_limits_of_this_process_do_not_change(isolation: None) -> None:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    before = [resource.getrlimit(getattr(resource, name)) for name in names]
    run("pass", SMALL)
    assert [resource.getrlimit(getattr(resource, name)) for name in names] == before


@pytest.mark.parametrize("name", ["cpu_seconds", "output_bytes"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} is 0; expected more than 0")):
        Limits(**{name: 0})


def test_without_bubblewrap_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_problem", isolation._problem.__wrapped__)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(IsolationError, match=r"bwrap was not found; install bubblewrap 0\.8"):
        isolation.require_isolation()


def test_without_permission_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1"
    )
    refusing.chmod(0o755)
    monkeypatch.setattr(isolation, "_problem", isolation._problem.__wrapped__)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(IsolationError, match=r"\(bwrap: No permissions .*unprivileged user name"):
        isolation.require_isolation()


def test_an_interpreter_that_only_root_can_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = tmp_path / "python3"
    closed.touch(0o700)
    monkeypatch.setattr(isolation, "_problem", lambda: "a trial program failed")
    monkeypatch.setattr(bubblewrap, "_visible", lambda: ("/", str(closed)))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(IsolationError, match=rf"chmod -R o\+rX {re.escape(str(closed))}\)"):
        isolation.require_isolation()
    closed.chmod(0o755)
    with pytest.raises(IsolationError, match="install bubblewrap"):
        isolation.require_isolation()


@pytest.mark.parametrize("uid", [None, 61184])
def test_a_program_has_only_the_capabilities_for_leaving_root(uid: int | None) -> None:
    words = bubblewrap.command({"uid": uid}, 1, 0)
    assert words[words.index("--cap-drop") + 1] == "ALL"
    added = [after for word, after in pairwise(words) if word == "--cap-add"]
    assert added == ([] if uid is None else ["CAP_SETUID", "CAP_SETGID"])


# From the kernel's tables of system calls.
REFUSED = {
    "x86_64": {
        "unshare": 272, "setns": 308, "shmget": 29, "msgget": 68, "semget": 64, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "add_key": 248, "request_key": 249,
        "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "io_uring_setup": 425,
    },
    "aarch64": {
        "unshare": 97, "setns": 268, "shmget": 194, "msgget": 186, "semget": 190, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "add_key": 217, "request_key": 218,
        "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "io_uring_setup": 425,
    },
}  # fmt: skip
OTHERS = {
    "x86_64": {"audit": 0xC000003E, "clone": 56, "clone3": 435, "socket": 41, "read": 0},
    "aarch64": {"audit": 0xC00000B7, "clone": 220, "clone3": 435, "socket": 198, "read": 63},
}


def _filtered(machine: str, number: int, argument: int = 0, audit: int | None = None) -> int:
    """The filter's return value for a system call, by the rules of classic BPF."""
    audit = OTHERS[machine]["audit"] if audit is None else audit
    data = struct.pack("=IIQQ", number, audit, 0, argument)
    instructions = list(struct.iter_unpack("=HBBI", seccomp.call_filter(machine)))
    loaded, index = 0, 0
    while True:
        code, then, otherwise, operand = instructions[index]
        index += 1
        if code == seccomp.RETURN:
            return int(operand)
        if code == seccomp.LOAD:
            (loaded,) = struct.unpack_from("=I", data, operand)
        else:
            holds = {
                seccomp.JUMP_EQUAL: loaded == operand,
                seccomp.JUMP_ABOVE: loaded >= operand,
                seccomp.JUMP_SET: bool(loaded & operand),
            }[code]
            index += then if holds else otherwise


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_the_filter_refuses_exactly_the_listed_calls(machine: str) -> None:
    calls = OTHERS[machine]
    for name, number in REFUSED[machine].items():
        assert _filtered(machine, number) == seccomp.REFUSE | errno.EPERM, name
    families = {1, 2, 10}  # unix, internet, internet 6
    for family in range(46):  # netlink 16, packet 17, alg 38, vsock 40, ...
        expected = seccomp.ALLOW if family in families else seccomp.REFUSE | errno.EAFNOSUPPORT
        assert _filtered(machine, calls["socket"], family) == expected, family
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert _filtered(machine, calls["clone"], flag | 17) == seccomp.REFUSE | errno.EPERM
    assert _filtered(machine, calls["clone"], 0x003D0F00) == seccomp.ALLOW  # a thread
    assert _filtered(machine, calls["clone3"]) == seccomp.REFUSE | errno.ENOSYS
    assert _filtered(machine, calls["read"]) == seccomp.ALLOW
    assert _filtered(machine, calls["read"] | 0x40000000) == seccomp.REFUSE | errno.EPERM
    assert _filtered(machine, calls["read"], audit=0x40000003) == seccomp.KILL


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_every_jump_of_the_filter_stays_inside_it(machine: str) -> None:
    instructions = list(struct.iter_unpack("=HBBI", seccomp.call_filter(machine)))
    assert instructions[-1][0] == seccomp.RETURN
    for index, (_, then, otherwise, _) in enumerate(instructions):
        assert index + 1 + max(then, otherwise) <= len(instructions)
