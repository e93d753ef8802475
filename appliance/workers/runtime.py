"""The boundary to onnxruntime: every session is opened here, with the options that this node wants, and every word with
a GPU is spoken here.

Runs in forked children, after the fork. Knows nothing of calls, frames or what a model is for.
"""

import contextlib
import ctypes
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from appliance.workers.devices import Provider
from appliance.workers.gpu_libraries import is_loaded, lacking_words, library_folders, names

# Weights below this stay in the graph's own file: a mapping takes a page at least.
EXTERNAL_FROM_BYTES = 1024
# CUDA's driver interface: cuDeviceGetAttribute()'s numbers, which never change.
_COMPUTE_MAJOR, _COMPUTE_MINOR, _MULTIPROCESSORS = 75, 76, 16


def open_session(
    model: Path | bytes,
    *,
    threads: int,
    providers: Sequence[str | Provider],
    optimised: bool = False,
    write_to: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session on a model's file. `optimised`: the graph is one that was written with `write_to`, and is run as it is.
    `write_to`: the optimised graph is written there, its weights beside it as `<name>.data`.

    Raises whatever onnxruntime raises, which is a dozen unrelated classes. It may get fewer providers than were asked
    for without a word: ask it with get_providers().
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would burn the cores that the fronts and other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised:
        # Nodes in the processor's own memory layout are in the graph already, and stay.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if write_to is not None:
        options.optimized_model_filepath = str(write_to)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{write_to.name}.data"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(EXTERNAL_FROM_BYTES)
        )
    source = model if isinstance(model, bytes) else str(model)
    # Its own way of falling back prints and hides the reason; who opens a session for a device falls back by itself.
    return onnxruntime.InferenceSession(source, options, providers=list(providers), enable_fallback=0)


def listed_providers() -> tuple[str, ...]:
    """What this onnxruntime was built with, which says nothing of the box."""
    return tuple(onnxruntime.get_available_providers())


def load_libraries() -> str:
    """Loads CUDA and cuDNN from where pip or NVIDIA put them; otherwise the loader finds them, or not. What lacks then,
    as the end of a sentence."""
    preload, cuda = getattr(onnxruntime, "preload_dlls", None), getattr(onnxruntime, "cuda_version", "")
    if preload is None or not cuda:
        return ""
    # It prints what it does not find in each of them, be it found in the next.
    with contextlib.redirect_stdout(io.StringIO()):
        for folder in library_folders():
            # Of two folders with the same libraries both would be loaded, by their paths.
            if not all(map(is_loaded, names(cuda))):
                preload(directory=folder)
        preload()
    return lacking_words(cuda)


def run_bound(session: onnxruntime.InferenceSession, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Any]:
    """One run by I/O binding: inputs are copied to the device from where they lie, outputs once to the host."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for name in outputs:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    arrays: list[Any] = binding.copy_outputs_to_cpu()
    return arrays


def free_vram_bytes(index: int) -> int | None:
    """What of a GPU's memory nobody holds: CUDA's word, since it counts devices as the session does, else NVML's, which
    counts what is in the box, else None."""
    return _by_nvml(index) if (free := _by_cuda(index)) is None else free


def device_fault(index: int) -> str:
    """What keeps this process from using a GPU that it has used; empty where nothing does. After a kernel's fault, an
    illegal address above all, CUDA refuses a process everything until it ends."""
    for cudart in _cudart():
        if number := cudart.cudaSetDevice(index) or cudart.cudaDeviceSynchronize():
            cudart.cudaGetErrorString.restype = ctypes.c_char_p
            return f"CUDA error {number}, {cudart.cudaGetErrorString(number).decode(errors='replace')}"
    return ""


def _cudart() -> Iterator[ctypes.CDLL]:
    """The CUDA runtime that onnxruntime has loaded, if there is one."""
    for name in ("libcudart.so.13", "libcudart.so.12", "libcudart.so"):
        with contextlib.suppress(OSError):
            yield ctypes.CDLL(name)
            return


def _by_nvml(index: int) -> int | None:
    try:
        import pynvml
    except ImportError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index)).free)
    return None


def _by_cuda(index: int) -> int | None:
    """cudaMemGetInfo of the CUDA runtime that onnxruntime has loaded."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    for cudart in _cudart():
        if cudart.cudaSetDevice(index) == 0 and cudart.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0:
            return free.value
    return None


def engine_facts(index: int) -> dict[str, str]:
    """What the engines that TensorRT builds on a GPU depend on, by name; empty where not all of it can be told.

    NVIDIA promises an engine for the GPU's model and TensorRT's release that built it; the number of multiprocessors
    and the memory tell slices of one model apart. The driver is not among them: TensorRT itself asks for one. No
    TensorRT has run this.
    """
    gpu, release = _gpu_facts(index), _tensorrt_release()
    if not gpu or not release:
        return {}
    return gpu | {
        "tensorrt": release,
        "onnxruntime": onnxruntime.__version__,
        "cuda": str(getattr(onnxruntime, "cuda_version", "")),
        "machine": os.uname().machine,
    }


def _gpu_facts(index: int) -> dict[str, str]:
    """By the driver's own interface, which counts devices as the CUDA runtime does."""
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    device, number = ctypes.c_int(), ctypes.c_int()
    with contextlib.suppress(OSError, AttributeError):
        cuda = ctypes.CDLL("libcuda.so.1")
        if (
            cuda.cuInit(0)
            or cuda.cuDeviceGet(ctypes.byref(device), index)
            or cuda.cuDeviceGetName(name, len(name), device)
            or cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        ):
            return {}
        facts = {"gpu": name.value.decode(errors="replace"), "memory_mib": str(memory.value >> 20)}
        for what, attribute in (
            ("major", _COMPUTE_MAJOR),
            ("minor", _COMPUTE_MINOR),
            ("multiprocessors", _MULTIPROCESSORS),
        ):
            if cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device):
                return {}
            facts[what] = str(number.value)
        return facts
    return {}


def _tensorrt_release() -> str:
    """Of the library that onnxruntime has loaded, as the number that it has for it."""
    for major in (10, 11, 8):
        with contextlib.suppress(OSError, AttributeError):
            return str(ctypes.CDLL(f"libnvinfer.so.{major}", mode=os.RTLD_NOLOAD | os.RTLD_NOW).getInferLibVersion())
    return ""
