"""What a GPU is good for, found out by using it: a tiny model opened with what was asked for, and then with less.

Runs in a confined process that is to use the GPU, or to say whether another could. Knows nothing of frames and tenants.
"""

import os
import re
from pathlib import Path

import numpy as np
import onnxruntime

from appliance.core.frames import Loaded
from appliance.workers import runtime
from appliance.workers.devices import CPU, TENSORRT, Provider, attempts, options_of_engines, with_options
from appliance.workers.engines import engine_kind, remove_engines
from appliance.workers.spec import WorkerSpec
from appliance.workers.tiny_model import IDENTITY_MODEL
from appliance.workers.vram_ledger import SHARE

# Beneath the folder of all engines: those of the tiny model.
_TRIAL = "trial"
_CUBLAS_WORKSPACE = ":4096:1:16:8"  # in KiB
_SOURCE = re.compile(r"^/\S+:\d+ [^(]*\([^)]*\) ")


def try_device(spec: WorkerSpec) -> Loaded:
    """Opens a tiny model with what the spec asks for, and then with less, until a session gets a GPU. What it got, or
    why that is the CPU alone. Loads CUDA's libraries, so before anything else does."""
    if not spec.tf32:
        # For TensorRT, which has no option for it: NVIDIA's libraries read this when they are loaded.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    # Else each session of each model holds 130 MiB of the device for cuBLAS alone; the owner's own word comes first.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACE)
    lacking = runtime.load_libraries()
    reasons: list[str] = []
    providers: tuple[str, ...] = ()
    trial = Path(spec.output, _TRIAL) if spec.output else None
    for names in attempts(spec.providers)[:-1]:
        try:
            session = _open_tiny(spec, names, trial)
        except Exception as error:  # whatever a driver says
            if names[0] == TENSORRT and trial is not None:
                remove_engines(trial)  # if that was why, the next start finds out
            reasons.append(f"{names[0]}: {_words(error)}")
            continue
        got = session.get_providers()
        providers = tuple(name for name in names if name in got)
        if providers != (CPU,):
            break
        reasons.append(f"{names[0]} was asked for, and the session got the CPU alone")
    note = "; ".join(reasons)
    if providers in ((), (CPU,)):
        return Loaded([CPU], 0, lacking or note or "no provider but the CPU's was asked for")
    kind = _engine_kind(spec) if TENSORRT in providers else ""
    return Loaded(list(providers), 0, free_bytes=free_bytes(spec), note=note, engine_kind=kind)


def options(spec: WorkerSpec, names: tuple[str, ...], engines: Path | None) -> list[Provider]:
    """These providers with their options for the spec's device as it is now; `engines` as with_options() takes it."""
    free = free_bytes(spec)
    limit_bytes = int(free * SHARE) if free > 0 else 0
    return with_options(names, number=spec.device_number, limit_bytes=limit_bytes, engines=engines, tf32=spec.tf32)


def free_bytes(spec: WorkerSpec) -> int:
    """What of the device's memory nobody holds; -1: not known."""
    free = runtime.free_vram_bytes(spec.device_number)
    return -1 if free is None else free


def _open_tiny(spec: WorkerSpec, names: tuple[str, ...], engines: Path | None) -> onnxruntime.InferenceSession:
    session = runtime.open_session(IDENTITY_MODEL, threads=1, providers=options(spec, names, engines))
    session.run(None, {"x": np.zeros(1, np.float32)})
    return session


def _engine_kind(spec: WorkerSpec) -> str:
    facts = runtime.engine_facts(spec.device_number)
    return engine_kind(facts | options_of_engines() | {"tf32": str(spec.tf32)}) if facts else ""


def _words(error: Exception) -> str:
    """What went wrong on one line, without the place in onnxruntime's source where it did."""
    return _SOURCE.sub("", " ".join(str(error).split()))[:300]
