"""Source of programs that attack their host. The task of all is `double(x)`, which is 2 * x.

Where a successful attack could stay invisible, the program returns right results only if it
succeeds: judged right, it has broken out. The tests replace the names in capitals.
"""

__all__ = ["HOSTILE", "RIGHT"]

RIGHT = "def double(x):\n    return 2 * x\n"

HOSTILE: dict[str, str] = {
    "endless loop": """
def double(x):
    while True:
        pass
""",
    "endless loop that catches everything": """
import signal

def double(x):
    signal.setitimer(signal.ITIMER_PROF, 0)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
""",
    "sleep": """
import time

def double(x):
    time.sleep(1000)
""",
    "fork bomb": """
import os

def double(x):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "thread bomb": """
import threading, time

while True:
    try:
        threading.Thread(target=time.sleep, args=(1000,)).start()
    except RuntimeError:
        pass

def double(x):
    return 2 * x
""",
    "memory bomb": """
def double(x):
    hoard = []
    while True:
        hoard.append(bytearray(1 << 24))
""",
    "memory bomb as a result": """
def double(x):
    return [x] * (1 << 30)
""",
    "scratch filler": """
import os

def double(x):
    for number in range(1 << 20):
        with open(f"/scratch/{number}", "wb") as file:
            file.write(bytes(1 << 20))
    return 2 * x
""",
    "write outside of the scratch folder": """
def double(x):
    with open(PLANTED, "w") as file:
        file.write("overwritten")
    return 2 * x
""",
    "write beside the code that runs it": """
import os, sys

def double(x):
    for folder in ["/", "/dev", "/usr/lib", *sys.path]:
        try:
            with open(os.path.join(folder, "planted.py"), "w"):
                return 2 * x
        except OSError:
            pass
""",
    "read a planted file": """
def double(x):
    with open(PLANTED) as file:
        file.read()
    return 2 * x
""",
    "read the machine": """
import os

def double(x):
    for path in ("/etc/passwd", "/etc/hostname", "/proc/1/environ", "/proc/self/maps", TESTS):
        try:
            os.stat(path)
            return 2 * x
        except OSError:
            pass
""",
    "open a socket to loopback": """
import socket

def double(x):
    socket.create_connection(("127.0.0.1", PORT), timeout=2).sendall(b"out")
    return 2 * x
""",
    "kill its parent": """
import os, signal

def double(x):
    for number in (os.getppid(), 1, PROCESS, -PROCESS, -1, 0):
        try:
            os.kill(number, signal.SIGKILL)
        except OSError:
            pass
    return -1
""",
    "print a gigabyte": """
import os

def double(x):
    for _ in range(1 << 10):
        os.write(1, bytes(1 << 20))
    return 2 * x
""",
    "print a gigabyte as errors": """
import sys

while True:
    print("x" * (1 << 20), file=sys.stderr)

def double(x):
    return 2 * x
""",
    "exit 0 before the tests": """
import os

os._exit(0)

def double(x):
    return 2 * x
""",
    "exit 0 in a test": """
import os

def double(x):
    os._exit(0)
""",
    "raise SystemExit": """
def double(x):
    raise SystemExit(0)
""",
    "exit 0 at exit": """
import atexit, os, sys

atexit.register(os._exit, 0)
sys.exit(0)

def double(x):
    return 2 * x
""",
    "replace the comparison": """
import builtins, operator, sys
import numpy, numpy.testing

always = lambda *args, **kwargs: True
for name in ("all", "any", "abs"):
    setattr(builtins, name, always)
builtins.AssertionError = Warning
operator.eq = always
numpy.allclose = numpy.testing.assert_allclose = always
for module in list(sys.modules.values()):
    for name in ("assertion", "check", "_run", "_mistake"):
        setattr(module, name, always)

def double(x):
    return -1
""",
    "replace assert": """
import builtins, sys, types

class Forgiving(BaseException):
    pass

def trace(frame, event, argument):
    frame.f_trace_lines = True
    return trace

builtins.AssertionError = Forgiving
sys.settrace(trace)
sys.excepthook = lambda *args: None

def double(x):
    check = lambda candidate: None
    sys.modules["__main__"].check = sys.modules[__name__].check = check
    return -1
""",
    "equal to everything": """
class Equal:
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    __hash__ = None

def double(x):
    return Equal()
""",
    "a number equal to everything": """
class Equal(int):
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    def __pos__(self):
        return self
    def __reduce_ex__(self, protocol):
        return Equal, (0,)
    __hash__ = int.__hash__

def double(x):
    return Equal(-1)
""",
    "look for the right result": """
import gc, sys

def double(x):
    frame = sys._getframe()
    while frame:
        for name in ("exp", "results", "inputs", "test"):
            if name in frame.f_locals or name in frame.f_globals:
                return 2 * x
        frame = frame.f_back
    if any("def check(" in thing for thing in gc.get_objects() if isinstance(thing, str)):
        return 2 * x
    return -1
""",
    "write a verdict to every file": """
import os

VERDICT = b'{"kind": "passed", "explanation": "", "load_seconds": 0.0, "seconds": [0.0]}'

def double(x):
    for number in range(64):
        try:
            os.write(number, VERDICT)
        except OSError:
            pass
    return -1
""",
    "close every file": """
import os

def double(x):
    os.closerange(0, 64)
    return 2 * x
""",
    "answer with a pickle that calls": """
import os, pickle, stat, struct

class Call:
    def __reduce__(self):
        return eval, ("__import__('os')._exit(0)",)

def double(x):
    message = pickle.dumps(("value", Call(), 0.0))
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, struct.pack("!Q", len(message)) + message)
        except OSError:
            pass
    return 2 * x
""",
    "answer without end": """
import os, stat, struct

def double(x):
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, struct.pack("!Q", 1 << 62))
        except OSError:
            pass
    return 2 * x
""",
    "a result that holds itself": """
def double(x):
    result = []
    result.append(result)
    return result
""",
    "a result of great depth": """
def double(x):
    result = []
    for _ in range(10**6):
        result = [result]
    return result
""",
    "a result that is a function": """
def double(x):
    return lambda: 2 * x
""",
    "leave a process behind": """
import os, sys

def double(x):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", MARKER])
    return -1
""",
    "new namespaces": """
import ctypes

def double(x):
    for flag in (0x10000000, 0x00020000, 0x40000000):
        if ctypes.CDLL(None).unshare(flag) == 0:
            return 2 * x
""",
    "memory that outlives its process": """
import ctypes

def double(x):
    if ctypes.CDLL(None).shmget(0, ctypes.c_size_t(1 << 20), 0o1600) >= 0:
        return 2 * x
""",
    "become root": """
import os

def double(x):
    os.setuid(0)
    return 2 * x if os.getuid() == 0 else -1
""",
    "raise its limits": """
import resource

def double(x):
    for name in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
        resource.setrlimit(name, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return 2 * x
""",
    "use the kernel's keyrings": """
import ctypes, platform

KEYCTL = {"x86_64": 250, "aarch64": 219}[platform.machine()]

def double(x):
    return 2 * x if ctypes.CDLL(None).syscall(KEYCTL, 0, -3, 1) >= 0 else -1
""",
    "use io_uring": """
import ctypes

def double(x):
    parameters = ctypes.create_string_buffer(120)
    return 2 * x if ctypes.CDLL(None).syscall(425, 4, parameters) >= 0 else -1
""",
    "open a socket of another family": """
import socket

def double(x):
    for family in (16, 17, 38, 40):  # netlink, packet, alg, vsock
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 5):
            try:
                socket.socket(family, kind)
                return 2 * x
            except OSError:
                pass
    return -1
""",
    "an integer that takes minutes to print": """
def double(x):
    return 1 << 3 * 10**7
""",
    "an integer that takes minutes to read": """
import os, pickle, stat, struct

def double(x):
    digits = pickle.dumps("9" * 20_000_000, protocol=2)[2:-1]
    message = b"\\x80\\x02cbuiltins\\nint\\n(" + digits + b"tR."
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                data = struct.pack("!Q", len(message)) + message
                while data:
                    data = data[os.write(number, data):]
        except OSError:
            pass
    return 2 * x
""",
    "a fraction with parts of a hostile type": """
import os, pickle, stat, struct

def double(x):
    build = b"\\x80\\x02(X\\x05\\x00\\x00\\x00valueX\\x08\\x00\\x00\\x00fractionK\\x01K\\x01\\x87Q"
    state = pickle.dumps((None, {"_numerator": [x], "_denominator": []}), protocol=2)[2:-1]
    message = build + state + b"bG" + struct.pack(">d", 0.0) + b"t."
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, struct.pack("!Q", len(message)) + message)
        except OSError:
            pass
    return -1
""",
    "a number of a hostile type": """
import os, stat, struct

def double(x):
    message = b"\\x80\\x02X\\x04\\x00\\x00\\x00evalX\\x01\\x00\\x00\\x001\\x86Q."
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, struct.pack("!Q", len(message)) + message)
        except OSError:
            pass
    return 2 * x
""",
    "raise what is no exception": """
import os, pickle, stat, struct

message = pickle.dumps(("raised", 5, 0.0))

def double(x):
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, struct.pack("!Q", len(message)) + message)
        except OSError:
            pass
    return 2 * x
""",
    "take no time that is a number": """
import os, pickle, stat, struct

def double(x):
    message = pickle.dumps(("value", 2 * x, float("nan")))
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, struct.pack("!Q", len(message)) + message)
        except OSError:
            pass
    return 2 * x
""",
    "a fraction that divides by nothing": """
from fractions import Fraction

def double(x):
    result = Fraction(1, 2)
    result._numerator, result._denominator = 2 * x, 0
    return result
""",
    "an array of nothing": """
import numpy

def double(x):
    return numpy.array([])
""",
}
