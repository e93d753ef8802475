"""The calls that are sent, and what makes an answer right: V2 in JSON, in binary and over gRPC.

Runs in the benchmark's process. The expected answer is onnxruntime's own for the same row.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
from tritonclient.grpc import service_pb2

from benchmarks.http_load import http_request
from benchmarks.models import BenchmarkModel, Floats

_HEADER_SIZE = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Call:
    """One row of one model, and what comes back. `name` is what the server calls the model."""

    name: str
    row: Floats
    expected: Floats

    def same(self, values: object, what: str = "the answer") -> None:
        """Raises ValueError where the values are not the expected ones."""
        got = np.asarray(values, np.float32).ravel()
        if got.shape != self.expected.ravel().shape or not np.allclose(got, self.expected.ravel(), 1e-3, 1e-5):
            raise ValueError(f"{what} is {got[:4]}, expected {self.expected.ravel()[:4]}")

    def json_body(self) -> bytes:
        tensor = {"name": "x", "datatype": "FP32", "shape": self.row.shape, "data": self.row.ravel()}
        return orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)

    def json_request(self, address: str) -> bytes:
        return http_request(address, f"/v2/models/{self.name}/infer", self.json_body())

    def check_json(self, body: bytes) -> None:
        self.same(orjson.loads(body)["outputs"][0]["data"])

    def binary_request(self, address: str) -> bytes:
        raw = self.row.tobytes()
        parameters = {"binary_data_size": len(raw)}
        tensor = {"name": "x", "datatype": "FP32", "shape": self.row.shape, "parameters": parameters}
        head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
        headers = {_HEADER_SIZE: str(len(head)), "Content_Type": "application/octet-stream"}
        return http_request(address, f"/v2/models/{self.name}/infer", head + raw, **headers)

    def check_binary(self, body: bytes) -> None:
        self.same(np.frombuffer(body, np.float32, offset=len(body) - self.expected.nbytes))

    def grpc_message(self) -> bytes:
        request = service_pb2.ModelInferRequest(model_name=self.name)
        request.inputs.add(name="x", datatype="FP32", shape=self.row.shape)
        request.raw_input_contents.append(self.row.tobytes())
        message: bytes = request.SerializeToString()
        return message

    def check_grpc(self, message: bytes) -> None:
        answer = service_pb2.ModelInferResponse.FromString(message)
        self.same(np.frombuffer(answer.raw_output_contents[0], np.float32))


def call_of(model: BenchmarkModel, path: Path, name: str = "") -> Call:
    """One fixed row of the model at `path`, with onnxruntime's answer to it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    row = model.rows(1)
    return Call(name or model.name, row, session.run(None, {"x": row})[0])
