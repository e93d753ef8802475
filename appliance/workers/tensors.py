"""Tensors between their wire forms and numpy. Runs in a worker process.

RAW is little-endian, C order; BYTES elements each behind a 4-byte little-endian length. JSON is a list, nested or
flat. Source: Open Inference Protocol, "Tensor Data", and Triton's binary tensor data extension.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from appliance.core.errors import BadInputError
from appliance.core.tensors import DTYPES, element_count

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview

_NUMPY = {name: np.dtype(dtype.numpy) for name, dtype in DTYPES.items()}
_LENGTH = struct.Struct("<I")
_VIEW_FROM_BYTES = 16 * 1024


def from_raw(name: str, dtype: str, shape: Sequence[int], data: Buffer) -> Array:
    """A tensor from its RAW form; zero-copy but for BYTES and BOOL. Raises BadInputError where sizes disagree."""
    if dtype == "BYTES":
        return _strings_from_raw(name, shape, data)
    expected = element_count(shape) * DTYPES[dtype].size_bytes
    if len(data) != expected:
        raise BadInputError(
            f"input '{name}' of shape {list(shape)} and type {dtype} takes {expected} bytes, but {len(data)} came"
        )
    if dtype == "BOOL":
        flags: Array = np.frombuffer(data, np.uint8) != 0
        return flags.reshape(shape)
    return np.frombuffer(data, _NUMPY[dtype]).reshape(shape)


def _strings_from_raw(name: str, shape: Sequence[int], data: Buffer) -> Array:
    view, position, elements = memoryview(data), 0, []
    try:
        while position < len(view):
            (length,) = _LENGTH.unpack_from(view, position)
            position += 4
            if position + length > len(view):
                raise struct.error
            elements.append(str(view[position : position + length], "utf-8"))
            position += length
    except struct.error:
        raise BadInputError(
            f"input '{name}' of type BYTES is cut short at byte {position}: each element is a 4-byte "
            "little-endian length and then that many bytes"
        ) from None
    except UnicodeDecodeError:
        raise BadInputError(
            f"input '{name}' of type BYTES holds bytes that are no UTF-8: string tensors are text"
        ) from None
    if len(elements) != element_count(shape):
        raise BadInputError(
            f"input '{name}' of shape {list(shape)} takes {element_count(shape)} elements, but {len(elements)} came"
        )
    return _objects(elements, shape)


def _objects(elements: Sequence[object], shape: Sequence[int]) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


def parse_json(text: Buffer) -> Any:
    """A JSON value; NaN and Infinity, which some V2 clients write, are taken too."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(bytes(text))
        except ValueError as error:
            raise BadInputError(f"the tensor's data is no JSON: {error}") from None


def from_json(name: str, dtype: str, shape: Sequence[int], text: Buffer) -> Array:
    """A tensor from the text of a list. Raises BadInputError where elements or their number do not fit."""
    return from_values(name, dtype, shape, parse_json(text))


def from_values(name: str, dtype: str, shape: Sequence[int], values: Any) -> Array:
    """A tensor from a parsed list, nested or flat; a bare value is a list of one.

    Integers must be whole numbers within the dtype's range; nothing is rounded. Raises BadInputError.
    """
    if dtype in ("FP16", "BF16"):
        raise BadInputError(f"input '{name}' is {dtype}, which JSON cannot carry exactly: send it as binary data")
    if dtype == "BYTES":
        return _strings_from_values(name, shape, values)
    try:
        found = np.asarray(values)
    except ValueError:
        raise BadInputError(f"input '{name}': the lists in its data are of unequal length") from None
    expected = element_count(shape)
    if found.size != expected:
        raise BadInputError(f"input '{name}' of shape {list(shape)} takes {expected} elements, but {found.size} came")
    target, kind = _NUMPY[dtype], found.dtype.kind
    if target.kind in "iu" and kind in "fO":
        found = _exact_integers(values, found)  # numpy makes floats of small numbers beside ones above 2**63
        kind = found.dtype.kind
    if not found.size:
        return np.empty(shape, target)
    if target.kind == "f":
        taken = kind in "fiu"
    elif target.kind == "b":
        taken = kind == "b" or (kind in "iu" and bool(((found == 0) | (found == 1)).all()))
    else:
        taken = kind in "iu"
    if not taken:
        # Integers beyond 64 bits, and a mix of large unsigned and negative ones, arrive as objects or floats.
        raise BadInputError(f"input '{name}' is {dtype}, but its data holds something else: {_odd_one(values, target)}")
    if target.kind in "iu" and (found.min() < np.iinfo(target).min or found.max() > np.iinfo(target).max):
        raise BadInputError(f"input '{name}' is {dtype}, but its data holds numbers beyond that type's range")
    with np.errstate(over="ignore"):
        return found.astype(target).reshape(shape)


def _exact_integers(values: Any, found: Array) -> Array:
    """The list as integers, if they are all whole numbers of 64 bits; otherwise as numpy found it."""
    exact: Array = np.array(values, dtype=object)
    if all(type(value) is int for value in exact.reshape(-1)):
        for wide in (np.int64, np.uint64):
            try:
                return exact.astype(wide)
            except OverflowError:
                continue
    return found


def _strings_from_values(name: str, shape: Sequence[int], values: Any) -> Array:
    flat: list[object] = []
    stack = [iter(values if isinstance(values, list) else [values])]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            if not isinstance(value, str):
                raise BadInputError(
                    f"input '{name}' is BYTES, whose elements are JSON strings, but holds {value!r:.60}"
                )
            flat.append(value)
        else:
            stack.pop()
    if len(flat) != element_count(shape):
        raise BadInputError(
            f"input '{name}' of shape {list(shape)} takes {element_count(shape)} elements, but {len(flat)} came"
        )
    return _objects(flat, shape)


def _odd_one(values: Any, target: np.dtype[Any]) -> str:
    """The first element that is not what the dtype takes, for the error's sentence."""
    wanted = (bool,) if target.kind == "b" else (int,) if target.kind in "iu" else (int, float)
    stack = [values]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(reversed(value))
        elif not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            return f"{value!r:.60}"
    return "a number out of range"


def to_raw(dtype: str, array: Array) -> bytes | memoryview:
    """The RAW form of an output: of a large one a view of the array itself, which is to be copied before it changes."""
    if dtype != "BYTES":
        if array.nbytes >= _VIEW_FROM_BYTES and array.flags.c_contiguous:
            return array.reshape(-1).view(np.uint8).data
        return array.tobytes()
    parts = []
    for element in array.reshape(-1).tolist():
        data = element.encode() if isinstance(element, str) else bytes(element)
        parts.append(_LENGTH.pack(len(data)))
        parts.append(data)
    return b"".join(parts)


def to_json(name: str, dtype: str, array: Array) -> bytes:
    """The text of an output's flat list. NaN and Infinity are written as V2 clients read them.

    Raises BadInputError for FP16 and BF16, which V2 carries only as binary.
    """
    if dtype == "BYTES":
        return orjson.dumps(array.reshape(-1).tolist())
    if dtype in ("FP16", "BF16"):
        raise BadInputError(f"output '{name}' is {dtype}, which JSON cannot carry: ask for it as binary data")
    flat = array.reshape(-1)
    text = orjson.dumps(
        flat if flat.flags.c_contiguous else flat.copy(),
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    if b"null" in text:
        return json.dumps(flat.tolist(), separators=(",", ":")).encode()
    return text


def classify(dtype: str, array: Array, count: int, batched: bool, labels: Sequence[str]) -> Array:
    """V2's classification extension: per row (or for the whole tensor) the `count` largest as `value:index[:label]`."""
    if dtype in ("BYTES", "BOOL"):
        raise BadInputError(f"an output of type {dtype} cannot be classified: only numbers can")
    numbers = bfloat16_to_float(array) if dtype == "BF16" else array
    rows = numbers.reshape(numbers.shape[0], -1) if batched and numbers.ndim > 1 else numbers.reshape(1, -1)
    count = min(count, rows.shape[1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = [
        f"{row[i].item():f}:{i}" + (f":{labels[i]}" if i < len(labels) else "")
        for row, best in zip(rows, order, strict=True)
        for i in best
    ]
    shape = (rows.shape[0], count) if batched and numbers.ndim > 1 else (count,)
    return _objects(texts, shape)


def bfloat16_to_float(bits: Array) -> Array:
    """BF16's bits, as uint16, widened to FP32: they are its upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
