"""Where models may run, and with what options: from the owner's word and what onnxruntime was built with to an ordered
list of execution providers.

Pure, for the gateway and the workers alike. What a provider really does with a model, only a session says.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

from appliance.core.errors import BadInputError
from appliance.workers.engines import PREFIX

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
Provider = tuple[str, dict[str, str]]

_DEVICE = re.compile(r"(auto|cpu|cuda|tensorrt)(?::(\d{1,3}))?", re.ASCII)
_TRIED: dict[str, tuple[str, ...]] = {
    "auto": (TENSORRT, CUDA, CPU),
    "tensorrt": (TENSORRT, CUDA, CPU),
    "cuda": (CUDA, CPU),
    "cpu": (CPU,),
}


class Device(NamedTuple):
    """What `--device` says. `number` counts GPUs as CUDA does."""

    kind: Literal["auto", "cpu", "cuda", "tensorrt"]
    number: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}" if self.number else self.kind


def parse_device(text: str) -> Device:
    """Raises BadInputError, which says what is expected."""
    found = _DEVICE.fullmatch(text)
    if found is None or (found[2] and found[1] in ("auto", "cpu")):
        raise BadInputError(f"'{text[:40]}' is no device: expected auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N")
    return Device(found[1], int(found[2] or 0))  # type: ignore[arg-type]  # the pattern has these words


def providers_for(device: Device, listed: Collection[str]) -> tuple[str, ...]:
    """The providers to try, in order, of those that this onnxruntime lists; the CPU is always the last.

    That one is listed says how onnxruntime was built, and nothing of the box."""
    return tuple(provider for provider in _TRIED[device.kind] if provider in listed or provider == CPU)


def missing(device: Device, listed: Collection[str]) -> str:
    """Why what was asked for cannot even be tried, as a sentence; empty where it can, or where any device will do."""
    if device.kind in ("cuda", "tensorrt") and providers_for(device, listed) == (CPU,):
        return f"onnxruntime was built without {device.kind}: install ingle[gpu] in place of ingle[cpu]"
    return ""


def attempts(providers: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The lists that a session is opened with, one after the other, until one opens: a provider that cannot start
    takes none of those behind it along."""
    return [providers[start:] for start in range(len(providers))]


def with_options(
    providers: tuple[str, ...], *, number: int, limit_bytes: int, engines: Path | None, tf32: bool
) -> list[Provider]:
    """Each provider with its options, as onnxruntime takes them: texts. `limit_bytes` 0: no limit. `engines`: the
    folder of this model's engines; what TensorRT learns of kernels is kept beside it, for all models. `tf32`: CUDA may
    compute FP32 with ten bits of mantissa (TensorRT has no option for that).

    Names and meaning: onnxruntime's pages on its CUDA and TensorRT execution providers.
    """
    return [(name, _options(name, number, limit_bytes, engines, tf32)) for name in providers]


def _options(name: str, number: int, limit_bytes: int, engines: Path | None, tf32: bool = False) -> dict[str, str]:
    if name == CUDA:
        options = {
            "device_id": str(number),
            # Doubling its arena would take memory from models that are still to come.
            "arena_extend_strategy": "kSameAsRequested",
            # As quick as what a trial of all algorithms finds, which takes six times as long for each new shape;
            # onnxruntime's "DEFAULT" is one that always works, three times as slow.
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": str(int(tf32)),
        }
        return options | ({"gpu_mem_limit": str(limit_bytes)} if limit_bytes else {})
    if name == TENSORRT:
        options = {"device_id": str(number)}
        if engines is not None:
            # To build an engine takes minutes; a kept one is checked by TensorRT against device and release.
            options |= {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(engines),
                "trt_engine_cache_prefix": PREFIX,
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(engines.parent),
            }
        return options
    return {}


def options_of_engines() -> dict[str, str]:
    """Those of TensorRT's options that an engine depends on: not where files lie, nor which of a box's GPUs it is."""
    options = _options(TENSORRT, 0, 0, Path("engines", "model"))
    return {name: value for name, value in options.items() if name != "device_id" and not name.endswith("_path")}
