"""Whether two answers are the same: the original's and the converted model's, output by output, row by row. Pure.

Numbers agree within a tolerance that goes with the dtype and the largest number in the original's row; texts, integers
and truth values agree where they are equal; what is not finite must be the same.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.report import OutputParity, RowDifference, Tolerance

Array = NDArray[Any]

# By the dtype of the output. Single precision keeps 24 bits: sums of a few thousand terms lose a few of them.
TOLERANCES = {
    "FP64": Tolerance(1e-7, 1e-6),  # a model in double whose inner operators are single would be beyond it
    "FP32": Tolerance(1e-5, 1e-4),
    "FP16": Tolerance(1e-3, 1e-2),
    "BF16": Tolerance(1e-2, 5e-2),
}
# What an owner asks for by name costs precision, and the report shows how much; beyond this the answer is another one.
PRECISIONS = {
    "float16": Tolerance(1e-2, 2e-2),
    "bfloat16": Tolerance(2e-2, 5e-2),
    "int8": Tolerance(5e-2, 1.5e-1),
}

WORST_ROWS = 5


def tolerance_of(dtype: str, precision: str = "") -> Tolerance | None:
    """None for what must be equal."""
    if dtype not in TOLERANCES:
        return None
    return PRECISIONS.get(precision, TOLERANCES[dtype])


def compare(
    name: str, dtype: str, original: Array, converted: Array, *, run: int = 0, precision: str = ""
) -> OutputParity:
    """One output of one run. Rows are the first axis; an output without one is one row."""
    original, converted = np.asarray(original), np.asarray(converted)
    if original.shape != converted.shape:
        fault = f"the original gives shape {list(original.shape)}, the converted model {list(converted.shape)}"
        return OutputParity(name=name, dtype=dtype, rows=len(original) if original.ndim else 1, fault=fault)
    rows = len(original) if original.ndim else 1
    wide, other = _flat(original, rows), _flat(converted, rows)
    tolerance = tolerance_of(dtype, precision)
    if tolerance is None:
        return _equal(name, dtype, wide, other, run)
    return _near(name, dtype, wide, other, run, tolerance)


def _equal(name: str, dtype: str, original: Array, converted: Array, run: int) -> OutputParity:
    if dtype == "BYTES":
        original, converted = _texts(original), _texts(converted)
    differs = original != converted
    rows = np.flatnonzero(differs.any(axis=1))
    worst = []
    for row in rows[:WORST_ROWS]:
        at = int(np.flatnonzero(differs[row])[0])
        worst.append(RowDifference(run, int(row), 0.0, _word(original[row, at]), _word(converted[row, at])))
    count = len(rows)
    return OutputParity(
        name=name, dtype=dtype, rows=len(original), labels_differ=count, rows_differ=count, worst=tuple(worst)
    )


def _near(name: str, dtype: str, original: Array, converted: Array, run: int, tolerance: Tolerance) -> OutputParity:
    try:
        wide, other = original.astype(np.float64), converted.astype(np.float64)
    except (TypeError, ValueError):
        return OutputParity(name=name, dtype=dtype, rows=len(original), fault="the original's answer is no number")
    error, scale = _errors(wide, other)
    row_error = np.max(error, axis=1, initial=0.0)
    beyond = np.flatnonzero(row_error > tolerance.absolute + tolerance.relative * scale)
    worst = []
    for row in beyond[np.argsort(-row_error[beyond], kind="stable")][:WORST_ROWS]:
        at = int(np.argmax(error[row]))
        worst.append(
            RowDifference(run, int(row), _bounded(row_error[row]), _word(original[row, at]), _word(converted[row, at]))
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where((row_error > 0) & (scale > 0), row_error / scale, 0.0)
    return OutputParity(
        name=name,
        dtype=dtype,
        rows=len(wide),
        max_absolute=_bounded(np.max(row_error, initial=0.0)),
        max_relative=_bounded(np.max(relative, initial=0.0)),
        rows_differ=len(beyond),
        tolerance=tolerance,
        worst=tuple(worst),
    )


def rows_that_differ(dtype: str, original: Array, other: Array) -> NDArray[np.bool_]:
    """Which rows of two answers of the same shape are not the same, for an output of this dtype."""
    original, other = np.atleast_1d(original), np.atleast_1d(other)
    wide, beside = _flat(original, len(original)), _flat(other, len(other))
    tolerance = tolerance_of(dtype)
    if tolerance is None:
        found: NDArray[np.bool_] = (wide != beside).any(axis=1)
        return found
    error, scale = _errors(wide.astype(np.float64), beside.astype(np.float64))
    beyond: NDArray[np.bool_] = np.max(error, axis=1, initial=0.0) > tolerance.absolute + tolerance.relative * scale
    return beyond


def joined(parts: list[OutputParity]) -> OutputParity:
    """The same output of several runs as one."""
    worst = sorted((row for part in parts for row in part.worst), key=lambda row: -row.error)
    return OutputParity(
        name=parts[0].name,
        dtype=parts[0].dtype,
        rows=sum(part.rows for part in parts),
        max_absolute=max(part.max_absolute for part in parts),
        max_relative=max(part.max_relative for part in parts),
        labels_differ=sum(part.labels_differ for part in parts),
        rows_differ=sum(part.rows_differ for part in parts),
        tolerance=next((part.tolerance for part in parts if part.tolerance), None),
        worst=tuple(worst[:WORST_ROWS]),
        fault=next((part.fault for part in parts if part.fault), ""),
    )


def _errors(wide: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[Array, Array]:
    """How far each number is from the other, and the largest number in each of the first's rows."""
    both = np.isfinite(wide) & np.isfinite(other)
    # Not finite: the same, or infinitely far.
    same = np.where(np.isnan(wide), np.isnan(other), wide == other)
    with np.errstate(invalid="ignore"):
        error = np.where(both, np.abs(wide - other), np.where(same, 0.0, np.inf))
    return error, np.max(np.where(np.isfinite(wide), np.abs(wide), 0.0), axis=1, initial=0.0)


def _flat(array: Array, rows: int) -> Array:
    return array.reshape(rows, array.size // rows if rows else 0)


def _bounded(error: Any) -> float:
    """Infinitely far as the largest number there is: the report is JSON, which has no infinity."""
    return float(np.nan_to_num(error, nan=np.finfo(np.float64).max))


def _texts(array: Array) -> Array:
    texts = np.empty(array.shape, object)
    flat = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.ravel()]
    texts.reshape(-1)[:] = flat
    return texts


def _word(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float | np.floating) else str(value)[:120]
