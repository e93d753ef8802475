"""A stand-in for appliance.workers.runtime on a box that would have a GPU: what no test box has.

A session is a real one on the CPU that says it got CUDA. It holds as many bytes of the pretended memory as its model's
file has, times `gpu.json`'s "times", from its opening until it is collected, and half as many more from its first run;
what does not fit raises onnxruntime's own words for it. How the pretended GPU behaves, `gpu.json` beside this file
says: {"vram_bytes", "times", "says", "gpu", "engine_bytes", "adds", "breaks_at"}. "adds"
is added to each number that a session answers. A run with the number "breaks_at" among its inputs is a kernel's fault:
from then on every run in its process fails, as CUDA has it.

Where it says "tensorrt", a session with TensorRT's options does with files what onnxruntime's provider does: it takes
the engine that is in `trt_engine_cache_path`, raises the provider's words where that is none ("late": not before it
runs, as with open shapes), and otherwise writes one, under the provider's kind of name. In `sessions.txt` beside it, a
line for each says which: "built" or "found".
"""

import hashlib
import importlib.util
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import appliance.workers

_real_file = Path(appliance.workers.__path__[0], "runtime.py")
_spec = importlib.util.spec_from_file_location("real_runtime", _real_file)
assert _spec is not None
assert _spec.loader is not None
_real = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_real)

EXTERNAL_FROM_BYTES = _real.EXTERNAL_FROM_BYTES
_SETTINGS = json.loads(Path(__file__).with_name("gpu.json").read_text())
_held: dict[int, int] = {}
_broken: list[str] = []  # what this process's first fault of a kernel was
_ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. "
    "Name:'m' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* "
    "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*, bool, "
    "onnxruntime::WaitNotificationFn) Failed to allocate memory for requested buffer of size {}"
)
_RuntimeException = onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException


def _take(key: int, size_bytes: int) -> None:
    if sum(_held.values()) + size_bytes > _SETTINGS["vram_bytes"]:
        raise _RuntimeException(_ARENA.format(size_bytes))
    _held[key] = _held.get(key, 0) + size_bytes


class _Session:
    """What onnxruntime.InferenceSession would be with its nodes on a GPU."""

    def __init__(self, real: Any, size_bytes: int, *providers: str) -> None:
        self._real = real
        self._providers = [*providers, "CUDAExecutionProvider", "CPUExecutionProvider"]
        self._size_bytes = size_bytes
        self._key = id(self)
        self._ran = False
        self.fault = ""  # of its first run
        weakref.finalize(self, _held.pop, self._key, None)
        _take(self._key, size_bytes)

    def get_providers(self) -> list[str]:
        return self._providers

    def first_run(self) -> None:
        if self.fault:
            raise _RuntimeException(self.fault)
        if not self._ran:
            _take(self._key, self._size_bytes // 2)
            self._ran = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def open_session(model: Path | bytes, *, providers: Sequence[Any], **options: Any) -> Any:
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    real = _real.open_session(model, providers=["CPUExecutionProvider"], **options)
    size_bytes = len(model) if isinstance(model, bytes) else model.stat().st_size
    if names[0] == "TensorrtExecutionProvider" and _SETTINGS["says"] == "tensorrt":
        fault = _engine(dict(providers)["TensorrtExecutionProvider"])
        session = _Session(real, int(size_bytes * _SETTINGS["times"]), "TensorrtExecutionProvider")
        session.fault = fault
        return session
    if names[0] == "TensorrtExecutionProvider":
        raise _RuntimeException("libnvinfer.so.10: cannot open shared object file: No such file or directory")
    if names[0] != "CUDAExecutionProvider" or _SETTINGS["says"] == "cpu":
        return real  # without a word, as onnxruntime does where CUDA does not start
    assert dict(providers)["CUDAExecutionProvider"]["arena_extend_strategy"] == "kSameAsRequested"
    return _Session(real, int(size_bytes * _SETTINGS["times"]))


def _engine(options: Mapping[str, str]) -> str:
    """Takes the engine that is there, or builds one: bytes that no other build has, behind their digest. What is wrong
    with it and is not seen yet."""
    if "trt_engine_cache_enable" not in options:
        return ""
    folder = Path(options["trt_engine_cache_path"])
    # As the provider names it: by the model's file and its nodes' names, and not by its weights.
    path = folder / f"{options['trt_engine_cache_prefix']}_7215963034106163227_0_sm89.engine"
    if path.exists():
        content = path.read_bytes()
        if b"deadly" in content:
            os.abort()
        fault = f"TensorRT EP could not deserialize engine from cache: {path}"
        if content == b"late":
            return fault
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise _RuntimeException(fault)
    else:
        content = os.urandom(int(_SETTINGS["engine_bytes"]))
        path.write_bytes(hashlib.sha256(content).digest() + content)
        Path(options["trt_timing_cache_path"], "TensorrtExecutionProvider_cache_sm89.timing").write_bytes(b"timings")
        with (folder / "sessions.txt").open("a") as file:
            file.write("built\n")
        return ""
    with (folder / "sessions.txt").open("a") as file:
        file.write("found\n")
    return ""


def listed_providers() -> tuple[str, ...]:
    return ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def load_libraries() -> str:
    """There are none, and none lacks."""
    return ""


def run_bound(session: Any, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Any]:
    session.first_run()
    if _SETTINGS["breaks_at"] is not None and any(np.any(array == _SETTINGS["breaks_at"]) for array in inputs.values()):
        _broken.append("CUDA error 700, an illegal memory access was encountered")
    if _broken:
        raise _RuntimeException(
            "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; "
            "expr=cudaStreamSynchronize(static_cast<cudaStream_t>(stream_)); "
        )
    ran: list[Any] = _real.run_bound(session, inputs, outputs)
    return [array + _SETTINGS["adds"] if _SETTINGS["adds"] else array for array in ran]


def free_vram_bytes(number: int) -> int | None:
    return int(_SETTINGS["vram_bytes"]) - sum(_held.values())


def device_fault(number: int) -> str:
    return _broken[0] if _broken else ""


def engine_facts(number: int) -> dict[str, str]:
    return {"gpu": _SETTINGS["gpu"]}
