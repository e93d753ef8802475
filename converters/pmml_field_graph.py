"""PMML's fields as ONNX operators: the inputs, what the model sees of them, and which rows have no answer.

In the process of a conversion. The same steps as `prepared` of pmml_fields.py.
"""

import math
from collections.abc import Sequence

from converters.column_graph import ColumnGraph
from converters.pmml_fields import Field


class FieldGraph:
    """`named`: what the model sees of each field, [rows, 1], where an empty text and NaN are missing."""

    def __init__(self, g: ColumnGraph, fields: Sequence[Field]) -> None:
        self._g = g
        self.named: dict[str, str] = {}
        self._invalid: list[str] = []
        for field in fields:
            given = g.column(field.name, "BYTES" if field.is_text else "FP64", 1)
            if field.is_single and not field.is_text:
                given = g.to(g.to(given, "FP32"), "FP64")
            self.named[field.name] = self._prepared(field, given)

    def without_answer(self) -> str:
        """[rows, 1]: where a value is invalid; "" where none can be."""
        found = ""
        for invalid in self._invalid:
            found = self._g.node("Or", found, invalid) if found else invalid
        return found

    def _prepared(self, field: Field, given: str) -> str:
        g, dtype = self._g, "BYTES" if field.is_text else "FP64"
        missing = g.node("Equal", given, g.value("", "BYTES")) if field.is_text else g.node("IsNaN", given)
        for text in field.absent:
            missing = g.node("Or", missing, g.node("Equal", given, self._value(field, text)))
        value = given
        wrong = g.node("And", g.node("Not", missing), self._outside(field, given)) if field.bounded else ""
        if field.outliers == "asExtremeValues":
            value = self._limited(field, value)
        if field.outliers == "asMissingValues":
            far = g.node("Or", *(self._beyond(given, field.low, "Less"), self._beyond(given, field.high, "Greater")))
            far = g.node("And", far, g.node("Not", wrong)) if wrong else far
            missing = g.node("Or", missing, far)
        if wrong and field.invalid == "asMissing":
            missing = g.node("Or", missing, wrong)
        elif wrong and field.invalid == "asValue":
            value = g.node("Where", wrong, self._value(field, field.stand_in or ""), value)
        elif wrong:
            self._invalid.append(wrong)
        if field.missing_is_invalid:
            self._invalid.append(missing)
        if field.replacement is not None:
            return g.node("Where", missing, self._value(field, field.replacement), value)
        plain = not field.absent and field.outliers != "asMissingValues" and field.invalid != "asMissing"
        return value if plain else g.node("Where", missing, g.value("" if field.is_text else math.nan, dtype), value)

    def _value(self, field: Field, text: str) -> str:
        return self._g.value(text, "BYTES") if field.is_text else self._g.value(float(text or "nan"))

    def _beyond(self, value: str, margin: float, comparison: str) -> str:
        return self._g.node(comparison, value, self._g.value(margin))

    def _limited(self, field: Field, value: str) -> str:
        g = self._g
        for margin, comparison in ((field.low, "Less"), (field.high, "Greater")):
            if math.isfinite(margin):
                value = g.node("Where", self._beyond(value, margin, comparison), g.value(margin), value)
        return value

    def _outside(self, field: Field, given: str) -> str:
        g, inside = self._g, self._g.value(False, "BOOL")
        for level in field.levels if field.is_text else field.points:
            known = g.value(level, "BYTES" if field.is_text else "FP64")
            inside = g.node("Or", inside, g.node("Equal", given, known))
        for low, high, open_low, open_high in field.intervals:
            above = self._beyond(given, low, "Greater" if open_low else "GreaterOrEqual")
            below = self._beyond(given, high, "Less" if open_high else "LessOrEqual")
            inside = g.node("Or", inside, g.node("And", above, below))
        return g.node("Not", inside)
