"""PMML's derived fields worked out row by row, as the standard says. Pure."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Final

import numpy as np

from converters.pmml_derived import Derived, Expression, Value
from converters.pmml_fields import InvalidValueError


class Invalid:
    """Stands for a derived field that has no value in a row which has no answer if it is looked at."""


INVALID: Final = Invalid()
Found = dict[str, Value | Invalid | None]


def settle(derived: Sequence[Derived], row: Found) -> None:
    """Puts into `row` what can be worked out of what it holds."""
    for one in derived:
        if one.name in row or not one.of <= row.keys():
            continue
        try:
            value = worked_out(one.expression, row)
        except InvalidValueError:
            row[one.name] = INVALID
            continue
        if value is not None and one.expression.kind == "truth":
            value = "true" if value else "false"
        row[one.name] = float(np.float32(value)) if one.kind == "float" and value is not None else value


def worked_out(expression: Expression, row: Found) -> Value | None:
    """None: it is missing. Raises InvalidValueError where the row has no answer."""
    operation = expression.operation
    if operation == "constant":
        return expression.value
    if operation == "field":
        value = row[expression.field]
        if isinstance(value, Invalid):
            raise InvalidValueError
        return value
    if operation == "if":
        holds = worked_out(expression.parts[0], row)
        chosen = None if holds is None else expression.parts[1:][0 if holds else 1 :][:1]
        return _or_default(expression, worked_out(chosen[0], row) if chosen else None)
    parts = [worked_out(part, row) for part in expression.parts]
    operands = parts[1:] if operation == "call" else parts
    if expression.missing is not None and None in operands:
        return expression.missing
    with np.errstate(all="ignore"):
        result = _result(expression, parts)
    if isinstance(result, float) and math.isnan(result):
        if expression.fails:
            raise InvalidValueError
        result = None
    if operation in ("map", "discretize") and None in parts:
        return None
    if isinstance(result, float) and expression.kind == "float":
        result = float(np.float32(result))
    return _or_default(expression, result)


def _or_default(expression: Expression, result: Value | None) -> Value | None:
    return expression.default if result is None else result


def _result(expression: Expression, parts: list[Value | None]) -> Value | None:
    operation = expression.operation
    if operation == "call":
        return parts[0]
    if operation in ("isMissing", "isNotMissing"):
        return float((parts[0] is None) == (operation == "isMissing"))
    if operation in ("isIn", "isNotIn"):
        return float((parts[0] is not None and parts[0] in parts[1:]) == (operation == "isIn"))
    if operation in ("and", "or"):
        decides = float(operation == "or")
        return decides if decides in parts else None if None in parts else 1 - decides
    if operation in _SUMMARIES:
        known = [float(part) for part in parts if part is not None]
        return float(_SUMMARIES[operation](known)) if known else None
    if None in parts:
        return None
    if operation in _COMPARISONS:
        return float(_COMPARISONS[operation](parts[0], parts[1]))
    if operation == "indicator":
        return float(parts[0] == expression.value)
    if operation == "map":
        return next((value for keys, value in expression.rows if list(keys) == parts), None)
    numbers = [np.float64(part) for part in parts]
    if operation == "discretize":
        return next((value for interval, value in expression.bins if interval.holds(float(numbers[0]))), None)
    if operation == "norm":
        return _normed(expression, float(numbers[0]))
    return float(_OF_NUMBERS[operation](*numbers))


def _normed(expression: Expression, x: float) -> float | None:
    points = expression.points
    if not points[0][0] <= x <= points[-1][0]:
        if expression.outliers == "asMissingValues":
            return None
        if expression.outliers == "asExtremeValues":
            return points[0][1] if x < points[0][0] else points[-1][1]
    place = next((i for i, (orig, _) in enumerate(points[1:-1], 1) if x < orig), len(points) - 1)
    (a, low), (b, high) = points[place - 1], points[place]
    return low + (x - a) / (b - a) * (high - low)


_SUMMARIES: dict[str, Callable[[list[float]], float]] = {
    "min": min, "max": max, "sum": sum, "avg": lambda known: sum(known) / len(known),
    "product": lambda known: reduce(lambda a, b: a * b, known),
}  # fmt: skip
_COMPARISONS: dict[str, Callable[..., bool]] = {
    "equal": lambda a, b: a == b, "notEqual": lambda a, b: a != b, "lessThan": lambda a, b: a < b,
    "lessOrEqual": lambda a, b: a <= b, "greaterThan": lambda a, b: a > b, "greaterOrEqual": lambda a, b: a >= b,
}  # fmt: skip
_OF_NUMBERS: dict[str, Callable[..., float]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "pow": np.power, "abs": np.abs, "exp": np.exp,
    "sqrt": np.sqrt, "ln": np.log, "log10": np.log10, "ln1p": np.log1p, "expm1": np.expm1, "sin": np.sin,
    "cos": np.cos, "tanh": np.tanh, "floor": np.floor, "ceil": np.ceil, "rint": np.rint,
    "round": lambda x: np.floor(x + 0.5), "threshold": lambda x, t: float(x > t), "not": lambda x: 1 - x,
}  # fmt: skip
