"""Opening a model and running it once, with nothing around it: what a cold start in any server has to do.

Run as `python -m benchmarks.baselines.bare_load MODEL.onnx REQUEST`: a fresh process that has imported onnxruntime and
read the request (a line of JSON that describes the tensors, their buffers behind it) before the clock starts. Options
are onnxruntime's own. Prints one JSON line: seconds of load and first run, and the first output's first numbers.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import orjson


def main(model: Path, request: Path) -> None:
    head, _, raw = request.read_bytes().partition(b"\n")
    feed, start = {}, 0
    for tensor in orjson.loads(head):
        dtype = np.dtype(tensor["dtype"])
        count = int(np.prod(tensor["shape"]))
        feed[tensor["name"]] = np.frombuffer(raw, dtype, count, start).reshape(tensor["shape"])
        start += count * dtype.itemsize
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    outputs = session.run(None, feed)
    seconds = time.perf_counter() - started
    figures = {"seconds": seconds, "first": np.asarray(outputs[0]).ravel()[:8].tolist()}
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
