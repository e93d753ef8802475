"""The converted model as onnxruntime sees it: its signature, and a run. In the process of a conversion alone."""

import os
from pathlib import Path
from typing import Any

# Before onnxruntime is imported: it would start a thread and write an identifier under the user's cache folder.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPE_OF_ORT, Signature, TensorSpec
from converters.converter import Feed


class Session:
    """Raises RefusedError where the model does not open, or takes or gives what no call could carry."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a dozen unrelated classes
            raise RefusedError(f"the converted model does not open in onnxruntime: {_line(error)}") from None
        self.signature = Signature(
            tuple(_spec(value, "input") for value in self._session.get_inputs()),
            tuple(_spec(value, "output") for value in self._session.get_outputs()),
        )

    def run(self, feed: Feed) -> Feed:
        """All outputs by name. Raises RefusedError where the model fails on it."""
        try:
            outputs = self._session.run(None, feed)
        except Exception as error:
            raise RefusedError(f"the converted model does not run: {_line(error)}") from None
        named = zip(self.signature.outputs, outputs, strict=True)
        return {spec.name: np.asarray(output) for spec, output in named}


def _spec(value: Any, what: str) -> TensorSpec:
    dtype = DTYPE_OF_ORT.get(value.type)
    if dtype is None:
        raise RefusedError(f"{what} '{value.name}' of the converted model is {value.type}, which no call can carry")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in value.shape)
    names = tuple(size if isinstance(size, str) else "" for size in value.shape)
    return TensorSpec(value.name, dtype, shape, names if any(names) else ())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:600]
