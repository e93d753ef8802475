"""The custom runtime that serves an ONNX file with MLServer. Runs in MLServer's process, in its own environment."""

# The framework lives in an environment of its own, where mypy does not look.
# mypy: disable-error-code="import-not-found,misc"

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxRuntime(MLModel):
    """The model at the settings' `parameters.uri`, one thread."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        uri = self.settings.parameters.uri
        self._session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {tensor.name: self.decode(tensor, NumpyCodec).astype(np.float32) for tensor in payload.inputs}
        names = [output.name for output in self._session.get_outputs()]
        outputs = [
            NumpyCodec.encode_output(name, result)
            for name, result in zip(names, self._session.run(names, inputs), strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
