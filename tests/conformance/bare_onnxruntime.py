"""The truth: what onnxruntime itself, with nothing around it, says of a model and an input.

It shares no code with the node's own dealings with onnxruntime, so that both cannot be wrong in the same way.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16


class CannotOpenError(Exception):
    """onnxruntime refuses the model."""


class CannotRunError(Exception):
    """onnxruntime refuses the input, or the model fails on it."""


@dataclass(frozen=True)
class Declared:
    """One input or output. `dtype` is empty where V2 has none for it; `shape` has -1 for what is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Answer:
    """One output. BF16 are bits in uint16; strings are str in an object array."""

    name: str
    dtype: str
    array: Array


class BareModel:
    """A model opened by onnxruntime alone, one thread."""

    def __init__(self, model: bytes) -> None:
        """Raises CannotOpenError."""
        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise CannotOpenError(str(error)) from None
        overridable = [_declared(value, optional=True) for value in self._session.get_overridable_initializers()]
        self.inputs = [*(_declared(value) for value in self._session.get_inputs()), *overridable]
        self.outputs = [_declared(value) for value in self._session.get_outputs()]

    @property
    def expressible(self) -> bool:
        """Whether V2 has a tensor for every input and output."""
        return all(declared.dtype for declared in (*self.inputs, *self.outputs))

    def run(self, feed: dict[str, Array]) -> list[Answer]:
        """Every output in the model's order. Raises CannotRunError."""
        dtypes = {declared.name: declared.dtype for declared in self.inputs}
        try:
            if any(output.dtype == "BF16" for output in self.outputs):
                values = {name: _ort_value(array, dtypes[name]) for name, array in feed.items()}
                arrays = [_array(value) for value in self._session.run_with_ort_values(None, values)]
            else:
                bits = {name: _ort_value(array, "BF16") for name, array in feed.items() if dtypes.get(name) == "BF16"}
                arrays = self._session.run(None, {**feed, **bits})
        except Exception as error:
            raise CannotRunError(str(error)) from None
        return [Answer(output.name, output.dtype, a) for output, a in zip(self.outputs, arrays, strict=True)]

    def is_random(self, feed: dict[str, Array]) -> bool:
        """Whether the same input gives another answer each time, so that only dtypes and shapes can be compared."""
        first, second = self.run(feed), self.run(feed)
        return any(difference(a, b.dtype, b.array, exact=True) for a, b in zip(first, second, strict=True))


def _declared(value: onnxruntime.NodeArg, optional: bool = False) -> Declared:
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in value.shape or ())
    return Declared(value.name, DTYPES.get(value.type, ""), shape, optional)


def _ort_value(array: Array, dtype: str) -> onnxruntime.OrtValue:
    if dtype == "BF16":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _array(value: onnxruntime.OrtValue) -> Array:
    if value.element_type() != _BFLOAT16:
        plain: Array = value.numpy()
        return plain
    bits = np.empty(value.shape(), np.uint16)
    if bits.size:
        ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits


# How far sums of a few thousand terms may part when a batch changes their order; exact types have no tolerance.
_TOLERANCES = {"FP64": (1e-12, 1e-13), "FP32": (1e-5, 1e-6), "FP16": (5e-3, 1e-3), "BF16": (2e-2, 1e-2)}


def difference(truth: Answer, dtype: str, array: Array, *, exact: bool = False, shape_only: bool = False) -> str:
    """How an answer differs from the truth, in words; empty where it does not. Not a number equals itself."""
    if dtype != truth.dtype:
        return f"'{truth.name}' is {dtype} and not {truth.dtype}"
    if array.shape != truth.array.shape:
        return f"'{truth.name}' has shape {list(array.shape)} and not {list(truth.array.shape)}"
    if shape_only or _same_elements(truth.array, array):
        return ""
    if dtype in _TOLERANCES and not exact:
        relative, absolute = _TOLERANCES[dtype]
        wanted, given = numbers(truth.array, dtype), numbers(array, dtype)
        if np.allclose(given, wanted, rtol=relative, atol=absolute, equal_nan=True):
            return ""
    return f"'{truth.name}' is {_short(array)} and not {_short(truth.array)}"


def numbers(array: Array, dtype: str) -> Array:
    """Floating-point elements as numbers; BF16 arrives as bits."""
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _same_elements(one: Array, other: Array) -> bool:
    if one.dtype.kind == "O":
        return list(one.reshape(-1)) == list(other.reshape(-1))
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _short(array: Array) -> str:
    return " ".join(repr(array.reshape(-1)[:8].tolist()).split())[:200]
