"""`session.run` in a loop with nothing around it, in a process of its own: what a server cannot beat without batching.

Run as `python -m benchmarks.baselines.bare_session MODEL.onnx SECONDS CORE DEVICE`, one thread; CORE is a number or
`any`; DEVICE `cpu`, `cuda` with onnxruntime's own options, which compute FP32 in TF32, or `cuda-fp32` without TF32.
Prints one JSON line: calls a second and the percentiles of one call.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import orjson


def _open(model: Path, device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if device == "cpu":
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    onnxruntime.preload_dlls()
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"} if device == "cuda-fp32" else {})
    session = onnxruntime.InferenceSession(str(model), options, providers=[cuda])
    if session.get_providers()[0] != cuda[0]:
        raise RuntimeError("the session did not get the GPU")
    return session


def main(model: Path, seconds: float, core: str, device: str) -> None:
    if core != "any":
        os.sched_setaffinity(0, {int(core)})
    session = _open(model, device)
    first = session.get_inputs()[0]
    row = np.random.default_rng(7).standard_normal((1, *first.shape[1:])).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    feed = {first.name: row}
    warm_until = time.perf_counter() + min(0.3, seconds / 4)
    while time.perf_counter() < warm_until:
        session.run(names, feed)
    durations_s: list[float] = []
    started = before = time.perf_counter()
    while before - started < seconds:
        session.run(names, feed)
        now = time.perf_counter()
        durations_s.append(now - before)
        before = now
    p50, p99 = np.percentile(durations_s, (50, 99))
    figures = {"calls_per_s": len(durations_s) / (before - started), "p50_s": float(p50), "p99_s": float(p99)}
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
