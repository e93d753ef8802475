"""PMML's fields: which values are missing, invalid or outliers, and what is made of each before the model. Pure.

Source: PMML 4.4, dmg.org (DataDictionary, MiningSchema). Missing values are treated first, then invalid ones, then
outliers, as the reference evaluators do. A row with a value that is invalid and not treated has no answer.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from appliance.core.errors import RefusedError

Element = ElementTree.Element


class Interval(NamedTuple):
    """`open_low` and `open_high`: the margin itself is not in it."""

    low: float
    high: float
    open_low: bool
    open_high: bool

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)


class Field(NamedTuple):
    """An active field. `levels`: the values of a categorical one; none: a number. `replacement` of a missing value.

    `bounded`: values outside of `levels`, or of `intervals` and `points`, are invalid; `invalid` says what is made of
    them: `returnInvalid`, `asMissing`, `asValue` (`stand_in`), `asIs`. `absent` are values that mean a missing one.
    """

    name: str
    is_text: bool
    levels: tuple[str, ...] = ()
    replacement: str | None = None
    is_single: bool = False  # its numbers are of single precision, and so are compared
    kind: str = "double"  # of its numbers: integer, float, double
    bounded: bool = False
    intervals: tuple[Interval, ...] = ()
    points: tuple[float, ...] = ()
    invalid: str = "returnInvalid"
    stand_in: str | None = None
    absent: tuple[str, ...] = ()
    missing_is_invalid: bool = False
    outliers: str = "asIs"
    low: float = -math.inf
    high: float = math.inf

    @property
    def span(self) -> tuple[float, float]:
        """Where its numbers are to be looked for."""
        ends = [end for interval in self.intervals for end in interval[:2] if math.isfinite(end)] or list(self.points)
        return (min(ends), max(ends)) if len(ends) > 1 else (0.0, 1.0)


_NUMBERS = ("double", "float", "integer")
_TEXTS = ("string", "boolean", *_NUMBERS)
_TREATMENTS = ("returnInvalid", "asIs", "asMissing", "asValue")


def read_field(mining: Element, declared: Element | None) -> Field:
    """Raises RefusedError where the field is of a type, or treated in a way, that is not known here."""
    name = mining.get("name", "")
    if declared is None:
        raise RefusedError(f"field '{name}' of the MiningSchema is not in the DataDictionary")
    kind, optype = declared.get("dataType", ""), mining.get("optype") or declared.get("optype", "")
    is_text = kind in ("string", "boolean") or optype == "categorical"
    if kind not in (_TEXTS if is_text else _NUMBERS):
        raise RefusedError(f"field '{name}' is of the type '{kind}', which is not converted: give it as a number")
    if optype == "ordinal" and not is_text:
        optype = "continuous"
    if declared.get("isCyclic", "0") != "0":
        raise RefusedError(f"field '{name}' is cyclic, which is not converted")
    valid, wrong, absent = (
        tuple(v.get("value", "") for v in declared.iter("Value") if v.get("property", "valid") == word)
        for word in ("valid", "invalid", "missing")
    )
    intervals = tuple(read_interval(element) for element in declared.findall("Interval"))
    treatment = mining.get("invalidValueTreatment", "returnInvalid")
    if treatment not in _TREATMENTS or (treatment == "asValue" and mining.get("invalidValueReplacement") is None):
        raise RefusedError(f"field '{name}' treats invalid values in a way that is not converted: '{treatment}'")
    if wrong and not valid and not intervals:
        raise RefusedError(f"field '{name}' lists invalid values alone, which is not converted: list the valid ones")
    if is_text and kind == "boolean" and not valid:
        valid = ("true", "false")
    outliers = mining.get("outliers", "asIs")
    if outliers not in ("asIs", "asMissingValues", "asExtremeValues") or (outliers != "asIs" and is_text):
        raise RefusedError(f"field '{name}' treats outliers in a way that is not converted: '{outliers}'")
    return Field(
        name, is_text, (valid or ("",)) if is_text else (), mining.get("missingValueReplacement"),
        is_single=kind == "float", kind=kind, bounded=treatment != "asIs" and bool(valid or intervals),
        intervals=intervals,
        points=() if is_text else tuple(number(value, name) for value in valid), invalid=treatment,
        stand_in=mining.get("invalidValueReplacement"), absent=absent,
        missing_is_invalid=mining.get("missingValueTreatment") == "returnInvalid", outliers=outliers,
        low=number(mining.get("lowValue", "-inf"), name), high=number(mining.get("highValue", "inf"), name),
    )  # fmt: skip


TREATMENTS = (
    "missingValueReplacement", "invalidValueReplacement", "outliers", "lowValue", "highValue", "optype",
)  # fmt: skip


def refuse_other_treatment(schema: Element | None, outer: Mapping[str, Element]) -> None:
    """Raises RefusedError where a model within a document treats a field in another way than the document does."""
    for field in schema if schema is not None else ():
        name = field.get("name", "")
        if field.get("usageType", "active") != "active":
            continue
        for word in TREATMENTS:
            if name not in outer and word == "optype":  # of a derived field, or of what another model gives
                continue
            if field.get(word) not in (None, "asIs", outer[name].get(word) if name in outer else None):
                raise RefusedError(
                    f"a model within the document has a {word} of its own for field '{name}', which is not converted: "
                    "treat the field in the document's own MiningSchema"
                )


def number(text: str, field: str) -> float:
    """Raises RefusedError where it is none."""
    try:
        return float(text)
    except ValueError:
        raise RefusedError(f"'{text[:60]}' of field '{field[:60]}' is no number") from None


def read_interval(element: Element) -> Interval:
    closure = element.get("closure", "closedClosed")
    low, high = (
        number(element.get(side) or default, "Interval")
        for side, default in (("leftMargin", "-inf"), ("rightMargin", "inf"))
    )
    return Interval(low, high, closure.startswith("open"), closure.endswith("Open"))


class InvalidValueError(Exception):
    """The row has no answer."""


def prepared(field: Field, value: float | str) -> float | str | None:
    """What the model sees; None: it is missing. An empty text and NaN are missing. Raises InvalidValueError."""
    if field.is_text:
        return _prepared_text(field, str(value))
    x = float(np.float32(value)) if field.is_single else float(value)
    if math.isnan(x) or x in [float(text) for text in field.absent]:
        return _replaced(field)
    if field.bounded and not (x in field.points or any(interval.holds(x) for interval in field.intervals)):
        if field.invalid == "asMissing":
            return _replaced(field)
        if field.invalid != "asValue":
            raise InvalidValueError
        return float(field.stand_in or "nan")
    if field.outliers == "asMissingValues" and not field.low <= x <= field.high:
        return _replaced(field)
    return min(max(x, field.low), field.high) if field.outliers == "asExtremeValues" else x


def _prepared_text(field: Field, text: str) -> float | str | None:
    if text == "" or text in field.absent:
        return _replaced(field)
    if field.bounded and text not in field.levels:
        if field.invalid == "asMissing":
            return _replaced(field)
        if field.invalid != "asValue":
            raise InvalidValueError
        return field.stand_in
    return text


def _replaced(field: Field) -> float | str | None:
    if field.missing_is_invalid:
        raise InvalidValueError
    if field.replacement is None:
        return None
    return field.replacement if field.is_text else float(field.replacement)
