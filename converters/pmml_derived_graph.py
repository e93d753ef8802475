"""PMML's derived fields as ONNX operators; the same steps as pmml_derived_rows.py. In the process of a conversion.

Numbers are doubles and NaN is missing, texts are missing where empty, a truth is 1, 0, or NaN.
"""

import math
from typing import NamedTuple

from converters.column_graph import ColumnGraph
from converters.pmml_derived import Derived, Expression, Value

_OPERATORS = {
    "+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "pow": "Pow", "abs": "Abs", "exp": "Exp", "sqrt": "Sqrt",
    "ln": "Log", "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "floor": "Floor", "ceil": "Ceil", "rint": "Round",
    "equal": "Equal", "notEqual": "Equal", "lessThan": "Less", "lessOrEqual": "LessOrEqual", "greaterThan": "Greater",
    "greaterOrEqual": "GreaterOrEqual", "threshold": "Greater",
}  # fmt: skip
_NEUTRAL = {"min": math.inf, "max": -math.inf, "sum": 0.0, "avg": 0.0, "product": 1.0}


class Made(NamedTuple):
    """`invalid`: where the row has no answer; "" where that cannot be."""

    value: str
    invalid: str


class DerivedGraph:
    """`named`: the fields' values; what is derived is put there too. `invalid` of each that may be."""

    def __init__(self, g: ColumnGraph, named: dict[str, str]) -> None:
        self._g, self._named = g, named
        self.invalid: dict[str, str] = {}

    def settle(self, derived: Derived) -> None:
        g = self._g
        value, invalid = self._made(derived.expression)
        if derived.expression.kind == "truth":
            text = g.node("Where", g.node("Equal", value, g.value(1.0)), *self._texts("true", "false"))
            value = g.node("Where", g.node("IsNaN", value), g.value("", "BYTES"), text)
        elif derived.kind == "float":
            value = self._single(value)
        self._named[derived.name] = value if derived.of else self._column(value)
        if invalid:
            self.invalid[derived.name] = invalid

    def _column(self, value: str) -> str:
        """As many rows as there are, also of a constant."""
        first = next(iter(self._named.values()))
        return self._g.node("Where", self._g.node("Equal", first, first), value, value)

    def _made(self, expression: Expression) -> Made:
        g = self._g
        if expression.operation == "constant":
            return Made(self._value(expression.value, expression.kind), "")
        if expression.operation == "field":
            return Made(self._named[expression.field], self.invalid.get(expression.field, ""))
        parts = [self._made(part) for part in expression.parts]
        if expression.operation == "if":
            return self._chosen(expression, parts)
        values, invalid = [part.value for part in parts], self._any([part.invalid for part in parts])
        result = self._result(expression, values)
        operands = list(zip(expression.parts, values, strict=True))[1 if expression.operation == "call" else 0 :]
        if expression.fails:
            wrong = g.node("And", g.node("IsNaN", result), g.node("Not", self._any_missing(operands)))
            invalid = self._any([invalid, wrong])
        if expression.kind == "float":
            result = self._single(result)
        result = self._or_default(expression, result)
        if expression.missing is not None:
            stand_in = self._value(expression.missing, expression.kind)
            result = g.node("Where", self._any_missing(operands), stand_in, result)
        return Made(result, invalid)

    def _chosen(self, expression: Expression, parts: list[Made]) -> Made:
        g, (condition, then) = self._g, parts[:2]
        other = parts[2] if len(parts) > 2 else Made(self._value(None, expression.kind), "")
        holds = g.node("Equal", condition.value, g.value(1.0))
        result = g.node("Where", holds, then.value, other.value)
        unknown = g.node("IsNaN", condition.value)
        result = g.node("Where", unknown, self._value(None, expression.kind), result)
        wrong = [condition.invalid]
        if then.invalid:
            wrong.append(g.node("And", holds, then.invalid))
        if other.invalid:
            fails = g.node("Equal", condition.value, g.value(0.0))
            wrong.append(g.node("And", fails, other.invalid))
        return Made(self._or_default(expression, result), self._any(wrong))

    def _result(self, expression: Expression, values: list[str]) -> str:
        g, operation = self._g, expression.operation
        operands = list(zip(expression.parts, values, strict=True))
        if operation == "call":
            return values[0]
        if operation in ("isMissing", "isNotMissing"):
            missing = self._missing(*operands[0])
            return g.to(missing if operation == "isMissing" else g.node("Not", missing), "FP64")
        if operation in ("isIn", "isNotIn"):
            found = self._any([g.node("Equal", values[0], value) for value in values[1:]])
            return g.to(found if operation == "isIn" else g.node("Not", found), "FP64")
        if operation in ("and", "or"):
            return self._joined(operation, values)
        if operation in _NEUTRAL:
            return self._summary(operation, operands)
        if operation in ("indicator", "map", "discretize", "norm"):
            return self._from_table(expression, operands)
        if operation == "not":
            return g.node("Sub", g.value(1.0), values[0])
        if operation in ("log10", "ln1p", "expm1", "round"):
            return self._composed(operation, values[0])
        result = g.node(_OPERATORS[operation], *values)
        if operation == "notEqual":
            result = g.node("Not", result)
        if expression.kind == "truth" or operation == "threshold":
            result = g.to(result, "FP64")
        plain = operation not in ("pow", "threshold") and expression.kind != "truth"
        return result if plain else self._where_known(operands, result)

    def _from_table(self, expression: Expression, operands: list[tuple[Expression, str]]) -> str:
        first = operands[0][1]
        if expression.operation == "norm":
            return self._normed(expression, first)
        if expression.operation == "indicator":
            is_it = self._is(expression, 0, first, expression.value)
            return self._where_known(operands, self._g.to(is_it, "FP64"))
        if expression.operation == "map":
            return self._mapped(expression, [value for _, value in operands])
        return self._discretized(expression, first)

    def _composed(self, operation: str, value: str) -> str:
        g = self._g
        if operation == "log10":
            return g.node("Div", g.node("Log", value), g.value(math.log(10)))
        if operation == "ln1p":
            return g.node("Log", g.node("Add", value, g.value(1.0)))
        if operation == "expm1":
            return g.node("Sub", g.node("Exp", value), g.value(1.0))
        return g.node("Floor", g.node("Add", value, g.value(0.5)))

    def _joined(self, operation: str, values: list[str]) -> str:
        g, decides = self._g, float(operation == "or")
        found = self._any([g.node("Equal", value, g.value(decides)) for value in values])
        unknown = self._any([g.node("IsNaN", value) for value in values])
        rest = g.node("Where", unknown, g.value(math.nan), g.value(1 - decides))
        return g.node("Where", found, g.value(decides), rest)

    def _summary(self, operation: str, operands: list[tuple[Expression, str]]) -> str:
        g, known = self._g, []
        for _, value in operands:
            known.append(g.node("Where", g.node("IsNaN", value), g.value(_NEUTRAL[operation]), value))
        operator = {"min": "Min", "max": "Max", "product": "Mul"}.get(operation, "Add")
        total = known[0]
        for value in known[1:]:
            total = g.node(operator, total, value)
        counts = [g.to(g.node("Not", g.node("IsNaN", value)), "FP64") for _, value in operands]
        count = counts[0]
        for one in counts[1:]:
            count = g.node("Add", count, one)
        if operation == "avg":
            total = g.node("Div", total, count)
        return g.node("Where", g.node("Equal", count, g.value(0.0)), g.value(math.nan), total)

    def _mapped(self, expression: Expression, values: list[str]) -> str:
        g = self._g
        result = self._value(expression.default, expression.kind)
        for keys, value in reversed(expression.rows):
            same = ""
            for index, key in enumerate(keys):
                one = self._is(expression, index, values[index], key)
                same = g.node("And", same, one) if same else one
            result = g.node("Where", same, self._value(value, expression.kind), result)
        return self._where_known(list(zip(expression.parts, values, strict=True)), result, expression.kind)

    def _discretized(self, expression: Expression, value: str) -> str:
        g = self._g
        result = self._value(expression.default, expression.kind)
        for (low, high, open_low, open_high), found in reversed(expression.bins):
            above = g.node("Greater" if open_low else "GreaterOrEqual", value, g.value(low))
            below = g.node("Less" if open_high else "LessOrEqual", value, g.value(high))
            result = g.node("Where", g.node("And", above, below), self._value(found, expression.kind), result)
        return self._where_known([(expression.parts[0], value)], result, expression.kind)

    def _normed(self, expression: Expression, value: str) -> str:
        g, points = self._g, expression.points
        result = ""
        for (a, low), (b, high) in zip(points[-2::-1], points[:0:-1], strict=True):
            share = g.node("Div", g.node("Sub", value, g.value(a)), g.value(b - a))
            line = g.node("Add", g.value(low), g.node("Mul", share, g.value(high - low)))
            result = g.node("Where", g.node("Less", value, g.value(b)), line, result) if result else line
        for (margin, norm), comparison in ((points[0], "Less"), (points[-1], "Greater")):
            if expression.outliers != "asIs":
                end = math.nan if expression.outliers == "asMissingValues" else norm
                result = g.node("Where", g.node(comparison, value, g.value(margin)), g.value(end), result)
        return result

    def _is(self, expression: Expression, place: int, value: str, wanted: Value | None) -> str:
        return self._g.node("Equal", value, self._value(wanted, expression.parts[place].kind))

    def _where_known(self, operands: list[tuple[Expression, str]], result: str, kind: str = "double") -> str:
        """The default of a table does not stand for what is missing of its keys."""
        return self._g.node("Where", self._any_missing(operands), self._value(None, kind), result)

    def _or_default(self, expression: Expression, result: str) -> str:
        if expression.default is None or expression.operation in ("map", "discretize"):
            return result
        missing = self._missing(expression, result)
        return self._g.node("Where", missing, self._value(expression.default, expression.kind), result)

    def _any_missing(self, operands: list[tuple[Expression, str]]) -> str:
        return self._any([self._missing(*operand) for operand in operands])

    def _missing(self, expression: Expression, value: str) -> str:
        g = self._g
        return g.node("Equal", value, g.value("", "BYTES")) if expression.kind == "text" else g.node("IsNaN", value)

    def _any(self, truths: list[str]) -> str:
        found = ""
        for truth in filter(None, truths):
            found = self._g.node("Or", found, truth) if found else truth
        return found

    def _single(self, value: str) -> str:
        return self._g.to(self._g.to(value, "FP32"), "FP64")

    def _texts(self, *texts: str) -> list[str]:
        return [self._g.value(text, "BYTES") for text in texts]

    def _value(self, value: Value | None, kind: str) -> str:
        if kind == "text":
            return self._g.value("" if value is None else value, "BYTES")
        return self._g.value(math.nan if value is None else float(value))
