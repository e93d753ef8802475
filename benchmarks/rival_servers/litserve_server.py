"""An ONNX file served with LitServe and its defaults.

Runs in LitServe's own environment as `python -m benchmarks.rival_servers.litserve_server MODEL.onnx PORT`. The call is
`POST /predict {"x": [row]}`, the answer `{"y": [row]}`.
"""

# The framework lives in an environment of its own, where mypy does not look.
# mypy: disable-error-code="import-not-found,misc"

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class OnnxApi(litserve.LitAPI):
    """One row a call, as LitServe's own examples do it."""

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.array(request["x"], np.float32)

    def predict(self, x: Any) -> Any:
        return self._session.run(None, {"x": x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(OnnxApi(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
