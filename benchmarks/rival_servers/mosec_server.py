"""An ONNX file served with Mosec.

Runs in Mosec's own environment as `python -m benchmarks.rival_servers.mosec_server --port PORT`; the command line
belongs to Mosec, so MODEL and BATCH come as environment variables. The call is `POST /inference {"x": row}`, the answer
`{"y": row}`. BATCH above 1 turns on its dynamic batching.
"""

# The framework lives in an environment of its own, where mypy does not look.
# mypy: disable-error-code="import-not-found,misc"

import os
from typing import Any

import numpy as np
import onnxruntime
from mosec import Server, Worker

_BATCH = int(os.environ["BATCH"])


class Inference(Worker):
    """One call at a time, or a batch of calls as a list."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    def forward(self, data: Any) -> Any:
        calls = data if _BATCH > 1 else [data]
        rows = self._session.run(None, {"x": np.array([call["x"] for call in calls], np.float32)})[0]
        answers = [{"y": row} for row in rows.tolist()]
        return answers if _BATCH > 1 else answers[0]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Inference, num=1, max_batch_size=_BATCH)
    server.run()
