"""A filter of system calls for the sandbox, for what namespaces and limits do not cover.

It refuses new namespaces (in a new mount namespace a program could mount memory without limit),
shared memory and message queues that outlive a process's limits, other processes' memory, and every
network family except unix and internet (the network namespace does not cover all). It is a classic
BPF program of seccomp(2), with numbers from the kernel's tables.
"""

from __future__ import annotations

import errno
import platform
import struct

__all__ = ["ARCHITECTURES", "call_filter"]

# Audit number, then the numbers of clone, clone3 and socket, then of all refused calls:
# unshare, setns, shmget, msgget, semget, ptrace, process_vm_readv, process_vm_writev, add_key,
# request_key, keyctl, bpf, perf_event_open, userfaultfd, io_uring_setup.
ARCHITECTURES: dict[str, tuple[int, tuple[int, int, int], tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (56, 435, 41),
        (272, 308, 29, 68, 64, 101, 310, 311, 248, 249, 250, 321, 298, 323, 425),
    ),
    "aarch64": (
        0xC00000B7,
        (220, 435, 198),
        (97, 268, 194, 186, 190, 117, 270, 271, 217, 218, 219, 280, 241, 282, 425),
    ),
}

LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
X32_CALLS = 0x40000000
# CLONE_NEW*: mount, cgroup, UTS, IPC, and user, process, network.
NEW_NAMESPACES = 0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x70000000
UNIX, INET, INET6 = 1, 2, 10

Instruction = tuple[int, int, int, int]


def call_filter(machine: str | None = None) -> bytes:
    """The filter for a machine as platform.machine() names it; None for this machine.

    Raises:
        KeyError: the machine is not in `ARCHITECTURES`.
    """
    audit, (clone, clone3, socket), refused = ARCHITECTURES[machine or platform.machine()]
    instructions: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, audit),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (JUMP_ABOVE, 0, 1, X32_CALLS),
        _refuse(errno.EPERM),
        (JUMP_EQUAL, 0, 1, clone3),
        _refuse(errno.ENOSYS),  # its flags are out of reach; the C library then uses clone
    ]
    for number in refused:
        instructions += [(JUMP_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    # The operands of a jump count the instructions that it skips; `allow` ends both groups.
    allow = (RETURN, 0, 0, ALLOW)
    instructions += [
        (JUMP_EQUAL, 0, 4, clone),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_SET, 0, 1, NEW_NAMESPACES),
        _refuse(errno.EPERM),
        allow,
        (JUMP_EQUAL, 0, 5, socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_EQUAL, 3, 0, UNIX),
        (JUMP_EQUAL, 2, 0, INET),
        (JUMP_EQUAL, 1, 0, INET6),
        _refuse(errno.EAFNOSUPPORT),
        allow,
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _refuse(number: int) -> Instruction:
    return (RETURN, 0, 0, REFUSE | number)
