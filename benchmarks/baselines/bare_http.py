"""The bare HTTP server that the node is held against: aiohttp on uvloop, V2 JSON and binary, the session called inline.

One process, no queue, no batching, no checks beyond what keeps it correct: what a competent engineer writes in an hour.
Run as `python -m benchmarks.baselines.bare_http MODEL.onnx READY_FILE`.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
import uvloop
from aiohttp import web

from benchmarks.baselines.listening import write_ready_file

_HEADER_SIZE = "Inference-Header-Content-Length"


def make_app(model: Path) -> web.Application:
    """The application: `POST /v2/models/NAME/infer` for one model with FP32 tensors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = model.stem
    output_names = [output.name for output in session.get_outputs()]

    async def infer(request: web.Request) -> web.Response:
        body = await request.read()
        header_size = request.headers.get(_HEADER_SIZE)
        asked = orjson.loads(body if header_size is None else memoryview(body)[: int(header_size)])
        offset = int(header_size or 0)
        inputs = {}
        for tensor in asked["inputs"]:
            if header_size is None:
                array = np.array(tensor["data"], np.float32)
            else:
                size = tensor["parameters"]["binary_data_size"]
                array = np.frombuffer(body, np.float32, size // 4, offset)
                offset += size
            inputs[tensor["name"]] = array.reshape(tensor["shape"])
        results = session.run(output_names, inputs)
        tensors = []
        binary = asked.get("parameters", {}).get("binary_data_output", False)
        parts = []
        for output_name, result in zip(output_names, results, strict=True):
            tensor = {"name": output_name, "datatype": "FP32", "shape": result.shape}
            if binary:
                parts.append(result.tobytes())
                tensor["parameters"] = {"binary_data_size": len(parts[-1])}
            else:
                tensor["data"] = result.ravel()
            tensors.append(tensor)
        answer = {"model_name": name, "model_version": "1", "outputs": tensors}
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        if not binary:
            return web.Response(body=head, content_type="application/json")
        headers = {_HEADER_SIZE: str(len(head)), "Content-Type": "application/octet-stream"}
        return web.Response(body=b"".join((head, *parts)), headers=headers)

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post(f"/v2/models/{name}/infer", infer)
    return app


async def main(model: Path, ready_file: Path) -> None:
    runner = web.AppRunner(make_app(model), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    write_ready_file(ready_file, runner.addresses[0][1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
