"""A caller's arrays as tensors on the wire, and back. Runs in whatever program uses the client.

Whatever offers the buffer protocol is taken as it is: numpy's arrays and scalars, array.array, memoryview. numpy itself
is needed, and imported, only where answers are given as arrays.
"""

import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from appliance.core.errors import BadInputError
from appliance.core.requests import Buffer
from appliance.core.tensors import DTYPES

_LENGTH = struct.Struct("<I")
# What the buffer protocol calls an element (docs.python.org, "struct", Format Characters), by kind and size.
_KINDS = {"?": "BOOL", "e": "FP", "f": "FP", "d": "FP"} | dict.fromkeys("bhilq", "INT") | dict.fromkeys("BHILQ", "UINT")


class Tensor(NamedTuple):
    """A tensor as it travels: RAW bytes, little-endian, in C order. Takes what no array can say, such as BF16."""

    dtype: str
    shape: Sequence[int]
    data: Buffer


def tensor_of(name: str, value: Any) -> Tensor:
    """What is sent for a value: a Tensor, an array, or a list of texts. Raises BadInputError for anything else."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple) and all(isinstance(one, str | bytes) for one in value):
        return Tensor("BYTES", [len(value)], _packed(value))
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("O", "U", "S"):
        return Tensor("BYTES", list(value.shape), _packed(value.reshape(-1).tolist()))
    if str(getattr(value, "dtype", "")) == "bfloat16":
        return Tensor("BF16", list(value.shape), value.tobytes())
    try:
        view = memoryview(value)
    except (TypeError, ValueError, BufferError):
        raise BadInputError(
            f"input '{name}' is a {type(value).__name__}: expected an array (numpy.ndarray, array.array, or anything "
            "with the buffer protocol), a list of texts, or a Tensor"
        ) from None
    return Tensor(_dtype_of(name, view), list(view.shape or ()), _bytes_of(view))


def _dtype_of(name: str, view: memoryview) -> str:
    order, letter = view.format[:-1], view.format[-1:]
    if letter not in _KINDS or order not in ("", "@", "=", "<" if sys.byteorder == "little" else ">"):
        raise BadInputError(
            f"input '{name}' has elements of the format '{view.format}', which have no data type here: expected "
            "numbers or booleans in this machine's byte order"
        )
    kind = _KINDS[letter]
    return kind if kind == "BOOL" else f"{kind}{view.itemsize * 8}"


def _bytes_of(view: memoryview) -> Buffer:
    plain = view.c_contiguous and view.ndim and view.nbytes
    return view.cast("B") if plain else view.tobytes()


def _packed(values: Iterable[Any]) -> bytes:
    parts = []
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def texts_of(data: Buffer) -> Iterator[bytes]:
    """The elements of a BYTES tensor."""
    view, position = memoryview(data), 0
    while position < len(view):
        (size,) = _LENGTH.unpack_from(view, position)
        yield bytes(view[position + 4 : position + 4 + size])
        position += 4 + size


def array_of(tensor: Tensor) -> Any:
    """A numpy array, which may not be written to: BF16 as its bits in uint16, BYTES as objects of bytes. The Tensor
    itself where there is no numpy."""
    try:
        import numpy as np
    except ImportError:
        return tensor
    if tensor.dtype == "BYTES":
        elements = np.empty(len(texts := list(texts_of(tensor.data))), object)
        elements[:] = texts
        return elements.reshape(tensor.shape)
    return np.frombuffer(tensor.data, np.dtype(DTYPES[tensor.dtype].numpy)).reshape(tensor.shape)
