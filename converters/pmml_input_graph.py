"""A PMML model's fields as ONNX operators, and what predicates say of them. In the process of a conversion."""

import numpy as np

from appliance.core.errors import RefusedError
from converters.column_graph import ColumnGraph
from converters.pmml_derived_graph import DerivedGraph
from converters.pmml_field_graph import FieldGraph
from converters.pmml_model import Document, Ensemble, Test

_MODES = {
    "lessThan": "BRANCH_LT", "lessOrEqual": "BRANCH_LEQ", "greaterThan": "BRANCH_GT", "greaterOrEqual": "BRANCH_GTE",
    "equal": "BRANCH_EQ", "notEqual": "BRANCH_NEQ",
}  # fmt: skip
_COMPARED = {
    "lessThan": "Less", "lessOrEqual": "LessOrEqual", "greaterThan": "Greater", "greaterOrEqual": "GreaterOrEqual",
}  # fmt: skip


class Inputs:
    """The fields as inputs, and what trees test as one matrix of numbers."""

    def __init__(self, g: ColumnGraph, document: Document) -> None:
        self._g = g
        self.texts = {field.name for field in document.fields if field.is_text}
        self.columns: list[str] = []
        self._places: dict[object, int] = {}
        self._fields = FieldGraph(g, document.fields)
        self.named = self._fields.named
        self._document, self._derived = document, DerivedGraph(g, self.named)
        self.texts |= {one.name for one in document.derived if one.kind == "text"}
        self.settle()

    def settle(self) -> None:
        """Adds the derived fields that can be worked out of what there is."""
        for one in self._document.derived:
            if one.name not in self.named and one.of <= self.named.keys():
                self._derived.settle(one)

    def without_answer(self) -> str:
        """[rows, 1]: where a value that the model looks at is invalid; "" where none can be."""
        found = self._fields.without_answer()
        for name in sorted(self._document.direct & set(self._derived.invalid)):
            invalid = self._derived.invalid[name]
            found = self._g.node("Or", found, invalid) if found else invalid
        return found

    def place(self, tests: tuple[Test, ...]) -> tuple[int, str, float]:
        """Where the matrix has what these tests look at, which all must hold, and the comparison that is left to the
        tree."""
        if len(tests) > 1:
            if tests not in self._places:
                self._column(tests, self._all_hold(tests))
            return self._places[tests], "BRANCH_GTE", 0.5
        test = tests[0]
        if test.operator in _MODES and test.operator != "notEqual" and self._is_number(test.field):
            return self._column(test.field, self.named[test.field]), _MODES[test.operator], float(test.value)
        if tests not in self._places:
            self._column(tests, self._truth(test))
        return self._places[tests], "BRANCH_GTE", 0.5

    def counted(self, model: Ensemble) -> list[str]:
        """[rows, 1] of each member: whether its tests hold."""
        g, always = self._g, Test("always")
        return [g.node("Equal", self._all_hold(tests or (always,)), g.value(1.0)) for tests in model.tests]

    def unknown(self, tests: tuple[Test, ...]) -> int:
        """Where the matrix has a one where it is not known whether the tests hold."""
        key = ("unknown", tests)
        if key not in self._places:
            self._column(key, self._g.to(self._g.node("IsNaN", self._all_hold(tests)), "FP64"))
        return self._places[key]

    def _is_number(self, field: str) -> bool:
        if field not in self.named:
            raise RefusedError(f"a tree tests field '{field[:60]}', which is none of the model's")
        return field not in self.texts

    def _column(self, key: object, value: str) -> int:
        if key not in self._places:
            self._places[key] = len(self.columns)
            self.columns.append(value)
        return self._places[key]

    def _truth(self, test: Test) -> str:
        """One where the test holds, zero where not, NaN where the value is missing."""
        g = self._g
        if test.parts:
            return self._joined(test)
        if test.operator in ("always", "never"):
            # As many rows as there are.
            first = next(iter(self.named.values()))
            return g.node("Where", g.node("Equal", first, first), *(g.value(float(test.operator == "always")),) * 2)
        self._is_number(test.field)
        value = self.named[test.field]
        missing = g.node("Equal", value, g.value("", "BYTES")) if test.field in self.texts else g.node("IsNaN", value)
        if test.operator in ("isMissing", "isNotMissing"):
            return g.to(missing if test.operator == "isMissing" else g.node("Not", missing), "FP64")
        if test.field not in self.texts and test.operator in _COMPARED:
            compared = g.node(_COMPARED[test.operator], value, g.value(float(test.value)))
            return g.node("Where", missing, g.value(np.nan), g.to(compared, "FP64"))
        values = test.values if test.operator in ("isIn", "isNotIn") else (str(test.value),)
        found = g.value(False, "BOOL")
        for level in values:
            wanted = g.value(level, "BYTES") if test.field in self.texts else g.value(float(level))
            found = g.node("Or", found, g.node("Equal", value, wanted))
        if test.operator in ("notEqual", "isNotIn"):
            found = g.node("Not", found)
        return g.node("Where", missing, g.value(np.nan), g.to(found, "FP64"))

    def _joined(self, test: Test) -> str:
        g = self._g
        parts = [self._truth(part) for part in test.parts]
        if test.operator == "and":
            return self._all_hold(test.parts)
        if test.operator == "surrogate":
            value = parts[-1]
            for part in reversed(parts[:-1]):
                value = g.node("Where", g.node("IsNaN", part), value, part)
            return value
        total = parts[0]
        for part in parts[1:]:
            total = g.node("Add", total, part)
        if test.operator == "xor":
            return g.node(
                "Sub", total, g.node("Mul", g.node("Floor", g.node("Mul", total, g.value(0.5))), g.value(2.0))
            )
        succeeds = g.value(False, "BOOL")
        for part in parts:
            succeeds = g.node("Or", succeeds, g.node("Equal", part, g.value(1.0)))
        return g.node("Where", succeeds, g.value(1.0), total)

    def _all_hold(self, tests: tuple[Test, ...]) -> str:
        """False where one is, whatever is unknown of the others."""
        g = self._g
        truths = [self._truth(test) for test in tests]
        product, fails = truths[0], g.value(False, "BOOL")
        for truth in truths:
            fails = g.node("Or", fails, g.node("Equal", truth, g.value(0.0)))
        for truth in truths[1:]:
            product = g.node("Mul", product, truth)
        return g.node("Where", fails, g.value(0.0), product)

    def matrix(self) -> str:
        return self._g.node("Concat", *self.columns, axis=1)
