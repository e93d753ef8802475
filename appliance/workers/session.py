"""One onnxruntime session: arrays in, arrays out. Runs in a worker process, after the fork.

Owns what a run is: types, errors, answers. How a session is opened is runtime.py's. Knows neither frames nor batching.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from appliance.core.errors import BadInputError, RefusedError, WorkerFailedError
from appliance.core.tensors import DTYPE_OF_ORT, Signature, TensorSpec
from appliance.workers.devices import CPU, Provider
from appliance.workers.runtime import open_session, run_bound

Array = NDArray[np.generic]
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16: numpy has no such dtype, so its bits travel as uint16
_FAULTS = onnxruntime.capi.onnxruntime_pybind11_state


def _spec(value: onnxruntime.NodeArg, what: str, optional: bool = False) -> TensorSpec:
    dtype = DTYPE_OF_ORT.get(value.type)
    if dtype is None:
        raise RefusedError(
            f"{what} '{value.name}' is {value.type}, which the V2 protocol has no tensor for: "
            "export the model with plain tensors of numbers, booleans or strings"
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in value.shape)
    names = tuple(size if isinstance(size, str) else "" for size in value.shape)
    return TensorSpec(value.name, dtype, shape, names if any(names) else (), optional)


# The arena's own words and those of CUDA, cuBLAS and cuDNN, which come as texts within errors of many classes.
_NO_MEMORY = (
    "bad_alloc",
    "is smaller than requested bytes",  # the arena's limit
    "Failed to allocate memory",
    "out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether onnxruntime, or a GPU's library beneath it, says that memory ran out."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY)


# onnxruntime's words where TensorRT does not take a kept engine: at the load, or at a run that has new shapes.
_BROKEN_ENGINE = "could not deserialize engine"


class SpentError(WorkerFailedError):
    """The session is of no more use."""


class OutOfMemoryError(SpentError):
    """The run wanted more than the worker may have. What onnxruntime's arena took by then, it keeps."""


class BrokenEngineError(SpentError):
    """A kept engine of TensorRT's is none. It was not built anew: the file is there."""


def _can_be_bound(signature: Signature) -> bool:
    """BF16 has no form in which Python could bind it; onnxruntime does not know by name an input that an initialiser
    stands in for, and has one place for outputs of one name."""
    specs = (*signature.inputs, *signature.outputs)
    names = {spec.name for spec in signature.outputs}
    return len(names) == len(signature.outputs) and not any(spec.optional or spec.dtype == "BF16" for spec in specs)


class Session:
    """An open model. `providers` is what onnxruntime really uses, which may be less than what was asked."""

    def __init__(
        self,
        model: Path,
        *,
        threads: int,
        providers: Sequence[str | Provider],
        optimised: bool = False,
        write_to: Path | None = None,
    ) -> None:
        """Raises RefusedError with onnxruntime's reason if the file does not open. For `optimised` and `write_to` see
        runtime.open_session()."""
        self._folder = f"{model.parent}/"
        try:
            self._session = open_session(
                model, threads=threads, providers=providers, optimised=optimised, write_to=write_to
            )
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(f"the model does not fit the memory: {self._reason(error)}") from None
            raise RefusedError(f"onnxruntime cannot open the model: {self._reason(error)}") from None
        self.providers: list[str] = self._session.get_providers()
        self.signature = self._read_signature()
        on_device = self.providers[0] != CPU
        if on_device and any(spec.dtype == "BYTES" for spec in (*self.signature.inputs, *self.signature.outputs)):
            # onnxruntime 1.31 was seen to end a process that ran one, with a loop in it, beside CUDA.
            raise RefusedError("it takes or gives texts, with which no GPU computes")
        self._through_values = any(spec.dtype == "BF16" for spec in self.signature.outputs)
        if self._through_values and any(spec.dtype == "BYTES" for spec in self.signature.inputs):
            raise RefusedError(
                "the model takes strings and gives BF16, which onnxruntime's Python interface cannot do in one run: "
                "cast the output to FP32 in the model"
            )
        self._bound = on_device and _can_be_bound(self.signature)
        self._bfloat16_inputs = {spec.name for spec in self.signature.inputs if spec.dtype == "BF16"}

    def _reason(self, error: Exception) -> str:
        """onnxruntime's words on one line, without where this node keeps its files."""
        return " ".join(str(error).replace(self._folder, "").split())[:600]

    def _read_signature(self) -> Signature:
        inputs = [_spec(value, "input") for value in self._session.get_inputs()]
        overridable = [_spec(value, "input", True) for value in self._session.get_overridable_initializers()]
        outputs = [_spec(value, "output") for value in self._session.get_outputs()]
        return Signature((*inputs, *overridable), tuple(outputs))

    def run(self, inputs: dict[str, Array]) -> list[Array]:
        """All outputs, in the model's order. BYTES are object arrays of str, BF16 is uint16 bits.

        Raises BadInputError where onnxruntime calls the input invalid, WorkerFailedError where the model failed on it.
        """
        try:
            if self._through_values:
                return self._run_values(inputs)
            feeds: dict[str, Any] = self._with_bfloat16(inputs) if self._bfloat16_inputs else inputs
            outputs: list[Any]
            if self._bound:
                outputs = run_bound(self._session, feeds, [spec.name for spec in self.signature.outputs])
            else:
                outputs = self._session.run(None, feeds)
        except (_FAULTS.InvalidArgument, UnicodeError) as error:
            raise BadInputError(f"the model does not take this input: {self._reason(error)}") from None
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"the model ran out of its worker's memory on this input: {self._reason(error)}"
                ) from None
            if _BROKEN_ENGINE in str(error):
                raise BrokenEngineError(f"TensorRT does not take a kept engine: {self._reason(error)}") from None
            raise WorkerFailedError(f"the model failed on this input: {self._reason(error)}") from None
        for index, output in enumerate(outputs):
            if not isinstance(output, np.ndarray):  # an optional output that was left out
                outputs[index] = np.asarray([] if output is None else output)
        return outputs

    def _run_values(self, inputs: dict[str, Array]) -> list[Array]:
        feeds = self._with_bfloat16(inputs)
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                feeds[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value).reshape(value.shape))
        return [self._array(value) for value in self._session.run_with_ort_values(None, feeds)]

    def _with_bfloat16(self, inputs: dict[str, Array]) -> dict[str, Any]:
        """The inputs, with those that onnxruntime must be told are BF16 as OrtValues."""
        return {
            name: onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
                np.ascontiguousarray(array).reshape(array.shape), _BFLOAT16
            )
            if name in self._bfloat16_inputs
            else array
            for name, array in inputs.items()
        }

    @staticmethod
    def _array(value: onnxruntime.OrtValue) -> Array:
        if value.data_type() != "tensor(bfloat16)":
            array: Array = value.numpy()
            return array
        shape = value.shape()
        size_bytes = 2 * int(np.prod(shape, dtype=np.int64))
        bits = ctypes.string_at(value.data_ptr(), size_bytes) if size_bytes else b""
        return np.frombuffer(bits, np.uint16).reshape(shape)
