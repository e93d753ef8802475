"""What a process of each role may touch, in one place; its confining, and the proof that it holds.

Runs in the zygote (`confine_zygote`) and in its forks (`confine_child`). Knows what Python, numpy and
onnxruntime need from the box, and imports neither of the two; how the kernel is asked is the sandbox's.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import NamedTuple

from appliance.core.own_program import is_one_file, program_folder
from appliance.sandbox import confine, landlock, seccomp
from appliance.sandbox.confine import Layer
from appliance.workers.gpu_libraries import DRIVER, folder_of, library_folders
from appliance.workers.spec import WorkerSpec

# Those that may still import a part of themselves, or read a file of their own, after the fork.
_PACKAGES = ("appliance", "numpy", "onnxruntime", "PIL", "tokenizers")
_WHERE_INSTALLED = ("site-packages", "dist-packages")
# How many cores there are: C libraries ask it when they make threads or arenas.
_SYSTEM = ("/sys/devices/system/cpu",)

# A worker with CUDA or TensorRT: what the driver and its libraries open.
_CUDA_READABLE = (
    "/proc",
    "/sys/devices",
    "/sys/bus/pci",
    "/sys/module",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/cuda",
)
# The driver names its threads there, and does not start where it cannot. What else lies there is the process's own.
_CUDA_WRITABLE = ("/proc/self/task",)
_CUDA_DEVICES = "nvidia*"  # in /dev
_CUDA_PROVIDERS = {"CUDAExecutionProvider", "TensorrtExecutionProvider"}

_PROBE_S = 10.0


class Profile(NamedTuple):
    """What a process may open, by path and all that is beneath, and whether it speaks to devices by ioctl."""

    readable: tuple[str, ...]
    writable: tuple[str, ...] = ()
    devices: bool = False


@cache
def runtime_folders() -> tuple[str, ...]:
    """Where this Python's library and what a worker imports lie. By name: sys.path may hold the working folder, and so
    keys. Packages that were installed share a folder, since each rule costs each fork 10 us."""
    folders = {Path(os.__file__).parent}
    for package in _PACKAGES:
        spec = find_spec(package)
        for place in map(Path, (spec and spec.submodule_search_locations) or ()):
            folders.add(place.parent if place.parent.name in _WHERE_INSTALLED else place)
    if is_one_file():
        folders.add(Path(program_folder()))
    return tuple(sorted(str(folder) for folder in folders if folders.isdisjoint(folder.parents)))


@cache
def _cuda_libraries() -> tuple[str, ...]:
    """The folders of the driver's and CUDA's libraries where the loader finds them, pip, NVIDIA or the environment
    brought them."""
    named = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return (*library_folders(), *filter(None, (folder_of(DRIVER), *named)))


def profile(spec: WorkerSpec) -> Profile:
    """What the process of this spec may touch: to read its model and the runtime, to write where it is told to."""
    models = tuple(filter(None, (spec.folder, spec.graph.folder if spec.graph else "")))
    readable = (*models, *runtime_folders(), *_SYSTEM)
    writable = (spec.output,) if spec.output else ()
    if _CUDA_PROVIDERS.isdisjoint(spec.providers):
        return Profile(readable, writable)
    devices = tuple(str(device) for device in Path("/dev").glob(_CUDA_DEVICES))
    return Profile(
        (*readable, *_CUDA_READABLE, *_cuda_libraries()), (*writable, *_CUDA_WRITABLE, *devices), devices=True
    )


def confine_child(allowed: Profile, *, data_bytes: int, file_bytes: int) -> tuple[Layer, ...]:
    """Confines this process, which must be single-threaded, for good. What it has open stays open. Bounds its private
    memory (0: it is not) and the size of each file that it writes."""
    return (
        confine.limit_resources(data_bytes=data_bytes, file_bytes=file_bytes),
        confine.confine_files(allowed.readable, allowed.writable),
        confine.confine_to_computing(writes=bool(allowed.writable), devices=allowed.devices),
    )


def confine_zygote() -> tuple[Layer, ...]:
    """Confines this process to forking, and says which layers its forks get, as one that is made for this and ends
    finds them: active is what held against an attempt, and not what the kernel said.

    Does before that what every fork would otherwise do for itself. The process must be single-threaded.
    """
    runtime_folders()
    with contextlib.suppress(OSError):
        landlock.offered()
    with contextlib.suppress(LookupError):
        for devices, writes in product((False, True), repeat=2):
            seccomp.computing(writes=writes, devices=devices)
    confine.confine_to_forking()  # whether it holds is seen in the fork
    return _tried_in_a_fork()


def _tried_in_a_fork() -> tuple[Layer, ...]:
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.write(into, json.dumps(_tried()).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        ended, _, _ = select.select([pipe], [], [], _PROBE_S)
        said = pipe.read() if ended else b""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if not said:
        return (Layer("sandbox", False, "a process that was confined for a trial did not survive it"),)
    return tuple(Layer(*layer) for layer in json.loads(said))


def _tried() -> list[Layer]:
    """The layers of this process, once it is confined and has tried what two of them, and only they, refuse."""
    attempts: dict[str, Callable[[], object]] = {
        "Landlock": lambda: next(Path("/").iterdir()),
        "seccomp": lambda: socket.socket(socket.AF_UNIX),
    }
    layers = confine_child(Profile((*runtime_folders(), *_SYSTEM)), data_bytes=0, file_bytes=0)
    return [_held(layer, attempts[layer.name]) if layer.name in attempts else layer for layer in layers]


def _held(layer: Layer, attempt: Callable[[], object]) -> Layer:
    if not layer.active:
        return layer
    try:
        attempt()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return layer
    return Layer(layer.name, False, "the kernel took it and let a forbidden act pass")
