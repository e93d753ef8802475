"""Values as JSON and CSV give them, made into an input's tensor. Runs in a worker process.

Owns the rules of types and ranges for people's data: nothing is rounded but to a float's own precision, nothing is
guessed; what does not fit is refused with the value that did not. Knows neither JSON's nor CSV's text.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import BadInputError
from appliance.core.tensors import DTYPES, MAX_RANK, TensorSpec
from appliance.workers.plain.shapes import fitted_shape

Array = NDArray[Any]

# How a plain answer writes what JSON has no number for, and so how it may be sent.
NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_EXACT = 2**53  # beyond this a float no longer tells one whole number from the next


def tensor(spec: TensorSpec, values: Any, missing: float | None = None) -> Array:
    """The input's tensor from a value or nested lists. `missing` stands for None. Raises BadInputError."""
    flat, shape = flattened(spec.name, values)
    return shaped(spec, elements(spec, flat, missing), shape)


def flattened(name: str, values: Any) -> tuple[list[Any], tuple[int, ...]]:
    """All elements of nested lists, and their shape; a bare value has shape (). Raises BadInputError if ragged."""
    level, shape = [values], ()  # type: list[Any], tuple[int, ...]
    while level and list in (kinds := set(map(type, level))):
        lengths = set(map(len, level)) if kinds == {list} else set()
        if len(lengths) != 1:
            raise BadInputError(
                f"input '{name}': the lists in its data are ragged at depth {len(shape) + 1}: "
                "rows must be of equal length"
            )
        if len(shape) == MAX_RANK:
            raise BadInputError(f"input '{name}': its data is nested more than {MAX_RANK} deep")
        shape += (lengths.pop(),)
        level = list(chain.from_iterable(level))
    return level, shape


def shaped(spec: TensorSpec, array: Array, shape: Sequence[int]) -> Array:
    """`array` in the one shape that the input takes it in. Raises BadInputError saying both shapes."""
    fitted = fitted_shape(spec.shape, shape)
    if fitted is None:
        raise BadInputError(f"input '{spec.name}' takes shape {described(spec)}, but the data has shape {list(shape)}")
    return array.reshape(fitted)


def described(spec: TensorSpec) -> str:
    """An input's shape for people: free sizes by their name, or `any`."""
    names = spec.dimension_names or ("",) * len(spec.shape)
    sizes = (str(size) if size >= 0 else name or "any" for size, name in zip(spec.shape, names, strict=False))
    return f"[{', '.join(sizes)}]" if spec.shape else "[] (one value)"


def elements(spec: TensorSpec, flat: Sequence[Any], missing: float | None = None) -> Array:
    """A flat array of the input's dtype. Raises BadInputError naming the first value that does not fit."""
    kinds = set(map(type, flat))
    if type(None) in kinds and missing is not None:
        stands: float | str = "" if spec.dtype == "BYTES" else missing  # of texts the empty one
        flat = [stands if value is None else value for value in flat]
        kinds = set(map(type, flat))
    if spec.dtype == "BYTES":
        return _strings(spec, flat, kinds)
    if spec.dtype == "BOOL":
        return _booleans(spec, flat, kinds)
    if spec.dtype in ("FP16", "FP32", "FP64", "BF16"):
        return _floats(spec, flat, kinds)
    return _integers(spec, flat, kinds)


def _refused(spec: TensorSpec, value: Any, wanted: str) -> BadInputError:
    if value is None:
        return BadInputError(
            f"input '{spec.name}' has an empty value: fill it in, or say in the manifest what stands for it "
            f'([[input]] as = "columns" has `missing`)'
        )
    shown = f"{value!r:.60}" if not isinstance(value, dict) else "an object"
    return BadInputError(f"input '{spec.name}' is {spec.dtype} and takes {wanted}, but its data holds {shown}")


def _strings(spec: TensorSpec, flat: Sequence[Any], kinds: set[type]) -> Array:
    if not kinds <= {str}:
        raise _refused(spec, next(value for value in flat if type(value) is not str), "strings")
    try:
        "".join(flat).encode()
    except UnicodeEncodeError:
        raise BadInputError(f"input '{spec.name}' holds half of a UTF-16 pair, which is no text") from None
    array = np.empty(len(flat), object)
    array[:] = flat
    return array


def _booleans(spec: TensorSpec, flat: Sequence[Any], kinds: set[type]) -> Array:
    if not kinds <= {bool}:
        for value in flat:
            if type(value) not in (bool, int, float) or value not in (0, 1):
                raise _refused(spec, value, "true or false")
    return np.array(flat, bool)


def _integers(spec: TensorSpec, flat: Sequence[Any], kinds: set[type]) -> Array:
    target = np.dtype(DTYPES[spec.dtype].numpy)
    limits = np.iinfo(target)
    wanted = f"whole numbers from {limits.min} to {limits.max}"
    if not kinds <= {int}:
        for value in flat:
            whole = type(value) is float and abs(value) <= _EXACT and value.is_integer()
            if type(value) is not int and not whole:
                raise _refused(spec, value, wanted)
        flat = list(map(int, flat))
    if flat and (min(flat) < limits.min or max(flat) > limits.max):
        raise _refused(spec, next(value for value in flat if not limits.min <= value <= limits.max), wanted)
    return np.array(flat, target)


def _floats(spec: TensorSpec, flat: Sequence[Any], kinds: set[type]) -> Array:
    if not kinds <= {int, float}:
        flat = [NOT_FINITE.get(value, value) if type(value) is str else value for value in flat]
        for value in flat:
            if type(value) not in (int, float):
                raise _refused(spec, value, "numbers")
    try:
        wide = np.array(flat, np.float64)
    except OverflowError:
        raise _refused(spec, "a number beyond any float's range", "numbers") from None
    target = np.float32 if spec.dtype == "BF16" else np.dtype(DTYPES[spec.dtype].numpy)
    with np.errstate(over="ignore"):
        array: Array = wide.astype(target)
    if spec.dtype == "BF16":
        array = bfloat16_bits(array)
        lost = ((array & 0x7FFF) == 0x7F80) & np.isfinite(wide)
    else:
        lost = np.isinf(array) & np.isfinite(wide)
    if lost.any():
        raise _refused(spec, flat[int(lost.argmax())], "numbers within that type's range")
    return array


def bfloat16_bits(array: Array) -> Array:
    """BF16 as uint16 bits, from FP32, rounded to the nearest and ties to even."""
    bits = array.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    # Rounding could carry a NaN's payload into the sign; any quiet NaN serves.
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
