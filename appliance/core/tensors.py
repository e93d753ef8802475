"""Tensors as they travel: a dtype's name, a shape and a buffer. No numpy: the gateway runs without it.

Dtype names are V2's (`FP32`, `INT64`, `BYTES` ...). A shape in a declaration has -1 where a dimension is free.
Sources: the Open Inference Protocol, "Tensor Data Types"; onnxruntime's type strings (`tensor(float)`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from appliance.core.errors import BadInputError

MAX_RANK = 16
MAX_DIMENSION = 2**40


class DType(NamedTuple):
    """One element type. `size_bytes` is 0 for BYTES, whose elements carry their length (4 bytes, little-endian)."""

    name: str
    size_bytes: int
    numpy: str
    ort: str
    config: str  # the name in V2's model configuration


DTYPES: dict[str, DType] = {
    t.name: t
    for t in (
        DType("BOOL", 1, "bool", "tensor(bool)", "TYPE_BOOL"),
        DType("UINT8", 1, "uint8", "tensor(uint8)", "TYPE_UINT8"),
        DType("UINT16", 2, "<u2", "tensor(uint16)", "TYPE_UINT16"),
        DType("UINT32", 4, "<u4", "tensor(uint32)", "TYPE_UINT32"),
        DType("UINT64", 8, "<u8", "tensor(uint64)", "TYPE_UINT64"),
        DType("INT8", 1, "int8", "tensor(int8)", "TYPE_INT8"),
        DType("INT16", 2, "<i2", "tensor(int16)", "TYPE_INT16"),
        DType("INT32", 4, "<i4", "tensor(int32)", "TYPE_INT32"),
        DType("INT64", 8, "<i8", "tensor(int64)", "TYPE_INT64"),
        DType("FP16", 2, "<f2", "tensor(float16)", "TYPE_FP16"),
        DType("FP32", 4, "<f4", "tensor(float)", "TYPE_FP32"),
        DType("FP64", 8, "<f8", "tensor(double)", "TYPE_FP64"),
        # numpy has no bfloat16: its bits are carried as uint16.
        DType("BF16", 2, "<u2", "tensor(bfloat16)", "TYPE_BF16"),
        DType("BYTES", 0, "object", "tensor(string)", "TYPE_STRING"),
    )
}
DTYPE_OF_ORT: dict[str, str] = {t.ort: t.name for t in DTYPES.values()}


class TensorSpec(msgspec.Struct, frozen=True, gc=False):
    """What a model declares of one input or output. -1 in `shape`: any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    dimension_names: tuple[str, ...] = ()
    optional: bool = False


class Signature(msgspec.Struct, frozen=True, weakref=True):
    """What a model takes and gives, in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def element_count(shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has: 1 for a scalar (an empty shape), 0 for an empty tensor."""
    count = 1
    for size in shape:
        count *= size
    return count


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raises BadInputError unless `shape` is one a real tensor can have: sizes of 0 or more, bounded."""
    if len(shape) > MAX_RANK:
        raise BadInputError(f"input '{name}' has {len(shape)} dimensions: at most {MAX_RANK} are taken")
    for size in shape:
        if not 0 <= size <= MAX_DIMENSION:
            raise BadInputError(
                f"input '{name}' has shape {list(shape)}: each size must be between 0 and {MAX_DIMENSION}"
            )
    if element_count(shape) > MAX_DIMENSION:
        raise BadInputError(f"input '{name}' has shape {list(shape)}: more elements than any request can carry")


def shape_fits(declared: Sequence[int], given: Sequence[int]) -> bool:
    """Whether a tensor of shape `given` satisfies a declaration: same rank, equal sizes where one is fixed."""
    return len(declared) == len(given) and all(d in (-1, g) for d, g in zip(declared, given, strict=True))
