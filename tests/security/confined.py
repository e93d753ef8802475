"""A zygote of the real kind whose forks, in place of serving a model, try one act each; prints what became of it.

Run as a program: `confined.py HELD_BACK FOLDER ROLE`, with a JSON list of acts as its input (none: all). HELD_BACK
names what this kernel is made not to have: "nothing", "landlock" or "seccomp". FOLDER holds what test_confinement.py
puts there. ROLE is the forks': "serve", or "device" for one on a GPU. Prints the layers, and for each act "done", the
name of the error it got, or the signal that ended it, as JSON.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from appliance.core.manifest import Manifest
from appliance.sandbox import syscalls
from appliance.workers import zygote
from appliance.workers.spec import WorkerSpec

NUMBERS = {
    name: number
    for table in (syscalls.ALLOWED, syscalls.BY_ARGUMENT, syscalls.FORKING, syscalls.WRITING, syscalls.FORBIDDEN)
    for name, number in syscalls.numbers(table, platform.machine())
}
CLONE3 = 435
Role = Literal["serve", "device"]
libc = ctypes.CDLL(None, use_errno=True)
folder = Path()


def call(number: int, *arguments: int) -> int:
    result = int(libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, (*arguments, *(0,) * (5 - len(arguments))))))
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def hold_back(numbers: range) -> None:
    """From here on the kernel answers these calls as one that does not have them."""
    steps = [(0x20, 0, 0, 0), (0x35, 0, 2, numbers.start), (0x35, 1, 0, numbers.stop), (0x06, 0, 0, 0x50000 | 38)]
    code = b"".join(struct.pack("=HBBI", *step) for step in (*steps, (0x06, 0, 0, 0x7FFF0000)))
    held = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("@HP", len(steps) + 1, ctypes.addressof(held)))
    libc.prctl(38, 1, 0, 0, 0)
    call(NUMBERS["seccomp"], 1, 0, ctypes.addressof(described))


# What a model's code might try.


def call_as_i386() -> None:
    """getpid by its number there, through the interrupt of old."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()


def change_limits() -> None:
    limits = struct.pack("=QQ", 0, 0)
    call(NUMBERS["prlimit64"], 0, resource.RLIMIT_FSIZE, ctypes.addressof(ctypes.create_string_buffer(limits)))


HOSTILE: dict[str, Callable[[], object]] = {
    "read the password file": lambda: Path("/etc/passwd").read_bytes(),
    "list the root folder": lambda: os.listdir("/"),  # noqa: PTH208
    "read the keys": lambda: (folder / "keys.sqlite").read_bytes(),
    "read another model": lambda: (folder / "other/model.onnx").read_bytes(),
    "list the models": lambda: os.listdir(folder),  # noqa: PTH208
    "read the zygote's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "read the zygote's memory": lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY),
    "climb out of its folder": lambda: (folder / "own/../keys.sqlite").read_bytes(),
    "follow a link out of its folder": lambda: (folder / "own/link").read_bytes(),
    "write into its folder": lambda: (folder / "own/new").write_bytes(b"x"),
    "write over its model": lambda: (folder / "own/model.onnx").write_bytes(b"x"),
    "append to its model": lambda: (folder / "own/model.onnx").open("ab"),
    "write into the folder of all": lambda: Path("/tmp/ingle-was-here").write_bytes(b"x"),
    "cut its model short": lambda: os.truncate(folder / "own/model.onnx", 0),
    "remove its model": lambda: (folder / "own/model.onnx").unlink(),
    "rename its model": lambda: (folder / "own/model.onnx").rename(folder / "own/x"),
    "make its model writable": lambda: (folder / "own/model.onnx").chmod(0o777),
    "date its model back": lambda: os.utime(folder / "own/model.onnx", (0, 0)),
    "make a folder": lambda: (folder / "own/x").mkdir(),
    "make a link": lambda: (folder / "own/x").symlink_to("/etc/passwd"),
    "make a file in memory": lambda: os.memfd_create("x"),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "run a program": lambda: subprocess.run(["true"], check=True),
    "spawn a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": lambda: os.fork() or os._exit(0),
    "clone3": lambda: call(CLONE3, 0, 0),
    "clone a process into a namespace": lambda: call(NUMBERS["clone"], 0x10010000 | signal.SIGCHLD),
    "open a TCP socket": lambda: socket.socket(),
    "open a Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "make a pair of sockets": lambda: socket.socketpair(),
    "trace the zygote": lambda: call(NUMBERS["ptrace"], 16, os.getppid()),
    "read the zygote's memory by call": lambda: call(NUMBERS["process_vm_readv"], os.getppid()),
    "signal the zygote": lambda: os.kill(os.getppid(), 0),
    "signal its group": lambda: os.kill(0, 0),
    "signal everyone": lambda: os.kill(-1, 0),
    "signal a thread of the zygote": lambda: call(NUMBERS["tgkill"], os.getppid(), os.getppid(), 0),
    "hold the zygote": lambda: os.pidfd_open(os.getppid()),
    "have the kernel signal the zygote": lambda: fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid()),
    "pin the zygote to a core": lambda: os.sched_setaffinity(os.getppid(), {0}),
    "bound the zygote": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE),
    "outlive the zygote": lambda: call(NUMBERS["prctl"], 1, 0),
    "leave its namespaces": lambda: call(NUMBERS["unshare"], 0x10000000),
    "type into a terminal": lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"),
    "change its limits": change_limits,
    "call as i386": call_as_i386,
    "call as x32": lambda: call(0x40000000 | NUMBERS["getpid"]),
    "make a call of the future": lambda: call(900),
}
HOSTILE |= {
    f"call {name}": lambda number=number: call(number)  # type: ignore[misc]
    for name, number in syscalls.numbers(syscalls.FORBIDDEN, platform.machine())
}
# On a GPU a model reads /proc, and writes where its own threads' names are.
ON_GPU: dict[str, Callable[[], object]] = {
    "name a thread of the zygote": lambda: os.open(f"/proc/{os.getppid()}/task/{os.getppid()}/comm", os.O_WRONLY),
    "map the zygote's users": lambda: Path(f"/proc/{os.getppid()}/uid_map").write_text("0 0 1"),
    "see where the zygote's memory lies": lambda: Path(f"/proc/{os.getppid()}/maps").read_text(),
    "read the environment of the first process": lambda: Path("/proc/1/environ").read_bytes(),
    "go through the zygote's root folder": lambda: os.listdir(f"/proc/{os.getppid()}/root/"),  # noqa: PTH208
    "go through its own root folder": lambda: _of_thread("root/etc/passwd").read_bytes(),
    "write by its own root folder": lambda: _of_thread("root/tmp/ingle-was-here").write_bytes(b"x"),
    "write by its own working folder": lambda: _of_thread("cwd/ingle-was-here").write_bytes(b"x"),
    "open what it has open anew": lambda: _of_thread("fd/1").open("r+b"),
    "map its own users": lambda: _of_thread("uid_map").write_text("0 0 1"),
    "be spared when memory runs out": lambda: _of_thread("oom_score_adj").write_text("-1000"),
    "set what holds for the kernel": lambda: os.open("/proc/sys/kernel/hostname", os.O_WRONLY),
}


def _of_thread(what: str) -> Path:
    return Path(f"/proc/self/task/{os.getpid()}", what)


# What a model and the runtime need.


def run_session(file: str, threads: int) -> None:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    session = onnxruntime.InferenceSession(str(folder / "own" / file), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).random((64, 512), np.float32)
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, x @ np.full((512, 512), 0.5, np.float32), rtol=1e-4)


def count_cores() -> None:
    assert "0" in Path("/sys/devices/system/cpu/online").read_text()
    assert os.cpu_count()


def open_picture(form: str) -> None:
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO((folder / f"own/picture.{form}").read_bytes())) as picture:
        assert picture.convert("RGB").size == (40, 30)


def run_threads() -> None:
    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))


def fail_with_a_traceback() -> None:
    import traceback

    try:
        raise ValueError("x")
    except ValueError:
        assert "ValueError" in traceback.format_exc()


def parse_json() -> None:
    import orjson

    assert orjson.loads(b"[1, 2]") == [1, 2]


NEEDED: dict[str, Callable[[], object]] = {
    "run a session": lambda: run_session("model.onnx", 1),
    "run a session with threads": lambda: run_session("model.onnx", 4),
    "run a session with a thread for each core": lambda: run_session("model.onnx", 0),
    "map weights from their own file": lambda: run_session("outside.onnx", 2),
    "open a JPEG": lambda: open_picture("jpeg"),
    "open a PNG": lambda: open_picture("png"),
    "open a WebP": lambda: open_picture("webp"),
    "run threads": run_threads,
    "count the cores": count_cores,
    "decode a text that needs a table": lambda: "日本".encode().decode().encode("shift_jis").decode("cp932"),
    "fail with a traceback": fail_with_a_traceback,
    "parse JSON": parse_json,
    "ask the time": lambda: (time.localtime(), time.sleep(0)),
    "signal itself": lambda: os.kill(os.getpid(), 0),
    "write to its log": lambda: print("a word", file=sys.stderr, flush=True),
}
NEEDED_ON_GPU: dict[str, Callable[[], object]] = {"name its thread": lambda: _of_thread("comm").write_text("cuda")}
ENDS = {"abort": os.abort}
ACTS = {**HOSTILE, **NEEDED, **ENDS}
ACTS_ON_GPU = {**HOSTILE, **ON_GPU, **NEEDED_ON_GPU}


def outcome_of(act: str) -> str:
    try:
        (ACTS | ACTS_ON_GPU)[act]()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def tried(
    act: str, role: Role, promised: frozenset[str], ours: socket.socket, theirs: socket.socket, nothing: int
) -> str:
    """Forks as the zygote does, with the act where the model's code would begin."""
    from appliance.workers import device_worker, worker

    def run_worker(_spec: WorkerSpec, sock: socket.socket, _region_fd: int) -> None:
        sock.sendall(outcome_of(act).encode())

    worker.run_worker = device_worker.run_device_worker = run_worker
    provider = "CUDAExecutionProvider" if role == "device" else "CPUExecutionProvider"
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        spec = WorkerSpec(1, role, str(folder / "own"), Manifest(), 1, 1, (provider,), 2**31)
        zygote._become_worker(spec, [theirs.fileno(), os.open("/dev/null", os.O_RDWR), nothing], parent, promised)
    _, status = os.waitpid(pid, 0)
    try:
        return ours.recv(1000, socket.MSG_DONTWAIT).decode()
    except BlockingIOError:
        return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"


def main(held_back: str, place: str, role: Role, acts: list[str]) -> None:
    global folder
    folder = Path(place)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a zygote makes none: it is handed them
    if held_back == "landlock":
        hold_back(range(444, 447))
    elif held_back == "seccomp":
        hold_back(range(NUMBERS["seccomp"], NUMBERS["seccomp"] + 1))
    layers = zygote.confine_and_warm_up().layers
    promised = frozenset(name for name, active, _ in layers if active)
    nothing = os.open("/dev/null", os.O_RDWR)
    outcomes = {act: tried(act, role, promised, ours, theirs, nothing) for act in acts}
    print(json.dumps({"layers": layers, "outcomes": outcomes}))


if __name__ == "__main__":
    _, lacking, where, forks, *_ = sys.argv
    asked = json.loads(sys.stdin.read())
    if forks == "device":
        main(lacking, where, "device", asked or list(ACTS_ON_GPU))
    else:
        main(lacking, where, "serve", asked or list(ACTS))
