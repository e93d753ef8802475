"""CUDA's and cuDNN's libraries, which Ingle does not bring: where pip and NVIDIA put them on this box, and which lack.

Runs in forked children that are to use a GPU, and finds folders before their confinement. What the loader finds by
itself (LD_LIBRARY_PATH, /etc/ld.so.conf) is not looked for here.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

DRIVER = "libcuda.so.1"
# Whose parts CUDA's provider of onnxruntime is linked with; cuDNN it opens when it is used.
_LIBRARIES = ("libcublasLt.so.{cuda}", "libcublas.so.{cuda}", "libcudart.so.{cuda}", "libcurand.so.10", "libcudnn.so.9")
_PACKAGES = "nvidia-cublas nvidia-cuda-runtime nvidia-curand nvidia-cufft nvidia-cudnn-cu{cuda}"
# Of a Python of the box: pip's packages of NVIDIA each have a folder there, or share `cu13`.
_PIP = ("lib/python3*/site-packages/nvidia/*/lib", "lib/python3*/dist-packages/nvidia/*/lib")
_NVIDIAS = ("usr/local/cuda*/lib64", "usr/local/cuda*/targets/x86_64-linux/lib")


@cache
def library_folders() -> tuple[str, ...]:
    """The folders that may hold some: of this Python, of the environment that is active, of the user, of the system."""
    spec = find_spec("nvidia")
    own = [path for place in (spec and spec.submodule_search_locations) or () for path in Path(place).glob("*/lib")]
    return tuple(dict.fromkeys(str(path) for path in (*own, *_found(Path("/"), os.environ)) if path.is_dir()))


def _found(root: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    homes = (f"{home}/.local" if (home := environ.get("HOME")) else "", environ.get("VIRTUAL_ENV", ""))
    pythons = [*filter(None, homes), "usr/local", "usr"]
    for place in pythons:
        for pattern in _PIP:
            yield from sorted((root / place.lstrip("/")).glob(pattern))
    for pattern in _NVIDIAS:
        yield from sorted(root.glob(pattern), reverse=True)


def folder_of(library: str) -> str:
    """Where the loader finds a library, such as the driver's, which containers have mounted where they like; empty
    where it finds none. Loads it: the driver's does nothing before it is asked to."""
    if not _loads(library, ctypes.CDLL):
        return ""
    stem = library.partition(".so")[0] + ".so"
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.is_absolute() and path.name.startswith(stem):
            return str(path.parent)
    return ""


def names(cuda: str) -> tuple[str, ...]:
    """The libraries of CUDA and cuDNN that are needed, as the loader knows them. `cuda`: as lacking_words()."""
    return tuple(one.format(cuda=cuda.partition(".")[0]) for one in _LIBRARIES)


def is_loaded(library: str) -> bool:
    """Whether this process has it, from wherever."""
    return _loads(library, partial(ctypes.CDLL, mode=os.RTLD_NOLOAD | os.RTLD_NOW))


def lacking_words(cuda: str, load: Callable[[str], object] = ctypes.CDLL) -> str:
    """What this box lacks of what CUDA's provider needs, and how to get it, as the end of a sentence; empty where
    nothing does. `cuda`: the version that onnxruntime was built for. What is not loaded yet is."""
    major = cuda.partition(".")[0]
    missing = [name for name in names(cuda) if not _loads(name, load)]
    words = []
    if not _loads(DRIVER, load):
        words.append(f"there is no NVIDIA driver ({DRIVER}): install it")
    if missing:
        words.append(
            f"{', '.join(missing)} cannot be loaded: install CUDA {major} and cuDNN 9 of NVIDIA, or "
            f"'pip install {_PACKAGES.format(cuda=major)}', or name their folders in LD_LIBRARY_PATH"
        )
    return "; ".join(words)


def _loads(name: str, load: Callable[[str], object]) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True
