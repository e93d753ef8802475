"""The bare gRPC server that the node is held against: grpc.aio on tritonclient's stubs, the session called inline.

One process, one RPC that works, FP32 raw tensors.
Run as `python -m benchmarks.baselines.bare_grpc MODEL.onnx READY_FILE`.
"""

import sys
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import uvloop
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.baselines.listening import write_ready_file


class BareServicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """`ModelInfer` of one model."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._name = model.stem
        self._output_names = [output.name for output in self._session.get_outputs()]

    async def ModelInfer(  # noqa: N802 - the stub's name
        self,
        request: service_pb2.ModelInferRequest,
        context: grpc.aio.ServicerContext,
    ) -> service_pb2.ModelInferResponse:
        inputs = {
            tensor.name: np.frombuffer(raw, np.float32).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        results = self._session.run(self._output_names, inputs)
        answer = service_pb2.ModelInferResponse(model_name=self._name, model_version="1", id=request.id)
        for name, result in zip(self._output_names, results, strict=True):
            answer.outputs.add(name=name, datatype="FP32", shape=result.shape)
            answer.raw_output_contents.append(result.tobytes())
        return answer


async def main(model: Path, ready_file: Path) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 2**20)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(BareServicer(model), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_ready_file(ready_file, port)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
