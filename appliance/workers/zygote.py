"""The zygote: a small single-threaded process that has onnxruntime imported and forks workers from that.

Started by exec of a hidden verb, never forked from the threaded gateway, so it can be started again after its death.
It owns no model and opens no session but a tiny one that it drops; it knows no protocol but the control socket's:
a memfd with a WorkerSpec and the worker's file descriptors come in, ZygoteWords go out. It dies with the gateway, and
its children die with it. Network and privileges are given up here, once, for all workers.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

# Both before any import of numpy or onnxruntime. Without the second, onnxruntime starts a telemetry thread at import
# and writes an identifier into the user's cache folder, and a child forked after that hangs at exit.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", ORT_DISABLE_TELEMETRY="1")

from appliance.sandbox import confine
from appliance.workers import confinement
from appliance.workers import spec as words
from appliance.workers.spec import Exited, Forked, ForkFailed, Ready, WorkerSpec

_MAX_FDS = 8


def _thread_count() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _warm_up() -> tuple[str, tuple[str, ...]]:
    """Imports what every worker needs, and runs a session once so that its code pages are in memory."""
    import numpy as np
    import numpy.random  # numpy leaves it until it is used, and it loads libraries from where a child may not read
    import onnxruntime

    from appliance.workers import device_worker, inspection, optimisation, translation, worker  # noqa: F401
    from appliance.workers.runtime import listed_providers
    from appliance.workers.tiny_model import IDENTITY_MODEL

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(IDENTITY_MODEL, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.zeros(1, np.float32)})
    return onnxruntime.__version__, listed_providers()


class Zygote:
    """Forks on request, reaps, and reports, until the control socket closes."""

    def __init__(self, control: socket.socket, promised: frozenset[str]) -> None:
        """`promised`: the sandbox's layers without which no child may run, since they were found to hold here."""
        self._control = control
        self._promised = promised
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)
        self._children: dict[int, tuple[int, int]] = {}  # pidfd -> (worker number, pid)

    def run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                if fd != self._control.fileno():
                    self._reap(fd)
                elif not self._serve_request():
                    return

    def _say(self, word: words.ZygoteWord, fds: list[int] | None = None) -> None:
        with contextlib.suppress(ConnectionError):  # the gateway has gone; the next read says so
            socket.send_fds(self._control, [words.encode(word)], fds or [])

    def _serve_request(self) -> bool:
        """Serves one request; False when the gateway has gone."""
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 64, _MAX_FDS)
        except ConnectionResetError:  # it went with words of ours unread
            return False
        if not message:
            return False
        spec_fd, *worker_fds = fds
        with os.fdopen(spec_fd, "rb") as file:
            file.seek(0)
            spec = words.decode_spec(file.read())
        try:
            self._fork(spec, worker_fds)
        except OSError as error:
            self._say(ForkFailed(spec.number, f"the system would not start a process: {error.strerror}"))
        finally:
            for fd in worker_fds:
                os.close(fd)
        return True

    def _fork(self, spec: WorkerSpec, fds: list[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_worker(spec, fds, parent, self._promised)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (spec.number, pid)
        self._epoll.register(pidfd, select.EPOLLIN)
        self._say(Forked(spec.number, pid), [pidfd])

    def _reap(self, pidfd: int) -> None:
        number, pid = self._children.pop(pidfd)
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        self._say(Exited(number, status, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime))


def _become_worker(spec: WorkerSpec, fds: list[int], parent: int, promised: frozenset[str]) -> NoReturn:
    """Everything a fork does before the model's code runs; ends the process in every case."""
    status = 70
    try:
        confine.die_with_parent()
        if os.getppid() != parent:  # it died before the line above could take effect
            os._exit(0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        sock_fd, region_fd, log_fd = fds
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        _close_all_but({0, 1, 2, sock_fd, region_fd})
        sock = socket.socket(fileno=sock_fd)
        sock.setblocking(True)
        _confine(spec, promised)
        if spec.role == "inspect":
            from appliance.workers.inspection import run_inspection

            run_inspection(spec, sock)
        elif spec.role == "optimise":
            from appliance.workers.optimisation import run_optimisation

            run_optimisation(spec, sock)
        elif spec.role == "device":
            from appliance.workers.device_worker import run_device_worker

            run_device_worker(spec, sock, region_fd)
        elif spec.role == "translate":
            from appliance.workers.translation import run_translation

            run_translation(sock)
        else:
            from appliance.workers.worker import run_worker

            run_worker(spec, sock, region_fd)
        status = 0
    except ConnectionError:
        status = 0  # the gateway has gone
    except BaseException as error:
        print(f"the worker ended on {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(status)


def _confine(spec: WorkerSpec, promised: frozenset[str]) -> None:
    """Raises RuntimeError where a layer that held when this zygote started does not hold in this child."""
    allowed = confinement.profile(spec)
    layers = confinement.confine_child(allowed, data_bytes=spec.data_bytes, file_bytes=spec.file_bytes)
    lost = [layer for layer in layers if layer.name in promised and not layer.active]
    if lost:
        raise RuntimeError("; ".join(f"the sandbox's {layer.name} failed: {layer.detail}" for layer in lost))


def _close_all_but(kept: set[int]) -> None:
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd not in kept:
            with contextlib.suppress(OSError):
                os.close(fd)


def confine_and_warm_up() -> Ready:
    """Makes of this process, which must be single-threaded, one that is worth forking."""
    layers = [confine.leave_network(), confine.forbid_new_privileges()]
    runtime, providers = _warm_up()
    layers += confinement.confine_zygote()
    # What is alive now stays for ever: keep the collector from touching, and so unsharing, its pages in every fork.
    gc.collect()
    gc.freeze()
    return Ready(runtime, providers, tuple(layers), _thread_count())


def main(control_fd: str) -> None:
    """The role's body. `control_fd` numbers a SOCK_SEQPACKET socket whose other end the gateway holds."""
    confine.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to handle: it drains first
    # onnxruntime may refuse to import in ways of its own; its output goes where the gateway's does.
    ready = confine_and_warm_up()
    with socket.socket(fileno=int(control_fd)) as control:
        zygote = Zygote(control, frozenset(name for name, active, _ in ready.layers if active))
        zygote._say(ready)
        zygote.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
