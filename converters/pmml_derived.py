"""PMML's derived fields, as expressions, worked out by pmml_derived_rows.py and pmml_derived_graph.py. Pure.

Source: PMML 4.4, dmg.org (Transformations, built-in functions). Where evaluators differ is refused.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_fields import Interval, number, read_interval

Element = ElementTree.Element
Value = float | str
MAX_DEPTH = 60
MAX_PARTS = 200_000
ARITHMETIC = ("+", "-", "*", "/")
SUMMARIES = ("min", "max", "sum", "avg", "product")  # of what is not missing
ROUNDED = ("floor", "ceil", "round", "rint")
OF_ONE = ("abs", "exp", "sqrt", "ln", "log10", "ln1p", "expm1", "sin", "cos", "tanh", *ROUNDED)
COMPARED = ("equal", "notEqual", "lessThan", "lessOrEqual", "greaterThan", "greaterOrEqual")
_COUNTS = {"-": (2, 2), "/": (2, 2), "+": (2, 2), "*": (2, 2), "pow": (2, 2), "threshold": (2, 2), "not": (1, 1),
           "isMissing": (1, 1), "isNotMissing": (1, 1), "if": (2, 3)}  # fmt: skip
_COUNTS |= dict.fromkeys(OF_ONE, (1, 1)) | dict.fromkeys(COMPARED, (2, 2)) | dict.fromkeys(SUMMARIES, (1, 1000))
_COUNTS |= dict.fromkeys(("and", "or", "isIn", "isNotIn"), (2, 1000))
_ORDER = ("integer", "float", "double")
_MAKES_NONE = ("pow", "sqrt", "ln", "log10", "ln1p")


class Expression(NamedTuple):
    """`operation`: `constant`, `field`, `norm`, `indicator`, `discretize`, `map`, `call` (its first part, where none of
    the others is missing), or a function of PMML's. `kind` of its value: integer, float, double, text or truth.

    `missing`: what a missing part gives; `default`: what stands for a missing result; None: nothing does.
    `fails`: a result that is no number leaves the row without an answer.
    """

    operation: str
    kind: str
    parts: tuple["Expression", ...] = ()
    value: Value | None = None
    field: str = ""
    points: tuple[tuple[float, float], ...] = ()
    outliers: str = "asIs"
    bins: tuple[tuple[Interval, Value], ...] = ()
    rows: tuple[tuple[tuple[Value, ...], Value], ...] = ()
    missing: Value | None = None
    default: Value | None = None
    fails: bool = False


class Derived(NamedTuple):
    """A field that is made of others (`of`); `kind`: integer, float, double or text. A truth is the text `true` or
    `false`."""

    name: str
    kind: str
    expression: Expression
    of: frozenset[str]


def walked_expression(expression: Expression) -> Iterator[Expression]:
    stack = [expression]
    while stack:
        item = stack.pop()
        yield item
        stack.extend(item.parts)


def needed(derived: Sequence[Derived], names: set[str]) -> tuple[Derived, ...]:
    """Those that `names` are, or are made of; in their order, in which one comes after what it is made of."""
    wanted = set(names)
    for one in reversed(derived):
        if one.name in wanted:
            wanted |= one.of
    return tuple(one for one in derived if one.name in wanted)


class Deriving:
    """Reads derived fields in their order. `kinds`: integer, float, double or text, of each field that there is."""

    def __init__(self, functions: Mapping[str, Element], kinds: Mapping[str, str]) -> None:
        self.kinds = dict(kinds)
        self.derived: dict[str, Derived] = {}
        self._functions = functions
        self._parts = 0
        self._sizes: dict[int, tuple[Expression, int]] = {}

    def add(self, element: Element) -> None:
        """A DerivedField. Raises RefusedError where it is made in a way that is not converted."""
        name, dtype = element.get("name", ""), element.get("dataType", "")
        body = [child for child in element if child.tag not in ("Extension", "Value", "Interval")]
        if not name or len(body) != 1:
            raise RefusedError(f"the derived field '{name[:60]}' is not made by one expression")
        try:
            kind, expression = self._cast(self._read(body[0], {}, dtype), dtype)
        except RefusedError as error:
            raise RefusedError(
                f"the derived field '{name[:60]}': {error}; or work the field out in front of the model"
            ) from None
        of = frozenset(item.field for item in walked_expression(expression) if item.operation == "field")
        found = Derived(name, kind, expression, of)
        if self.derived.get(name, found) != found or (name in self.kinds and name not in self.derived):
            raise RefusedError(f"two fields have the name '{name[:60]}': give the derived one another")
        self.derived[name], self.kinds[name] = found, found.kind

    def _cast(self, found: Expression, dtype: str) -> tuple[str, Expression]:
        if dtype == "boolean" and found.kind == "truth":
            return "text", found
        if dtype == "string" and found.kind == "text":
            return "text", found
        if found.kind in _ORDER and (dtype in ("float", "double") or (dtype == "integer" and found.kind == "integer")):
            return dtype, found
        raise RefusedError(
            f"what is a {found.kind} is cast to '{dtype[:40]}', which is not converted: make it double, or string"
        )

    def _read(self, element: Element, given: Mapping[str, Expression], dtype: str = "", depth: int = 0) -> Expression:
        """`given`: the parameters of the function that the expression is in."""
        if depth > MAX_DEPTH:
            raise RefusedError(f"expressions more than {MAX_DEPTH} deep are not converted")
        found = self._read_one(element, given, dtype, depth)
        # Parameters stand in several places: what is small as it is written may be large.
        size = 1 + sum(self._sizes.get(id(part), (None, 1))[1] for part in found.parts)
        self._sizes[id(found)] = found, size
        self._parts += 1
        if max(self._parts, size) > MAX_PARTS:
            raise RefusedError(f"expressions of more than {MAX_PARTS} parts are not converted")
        return found

    def _read_one(self, element: Element, given: Mapping[str, Expression], dtype: str, depth: int) -> Expression:
        readers: dict[str, Any] = {
            "FieldRef": self._field, "NormContinuous": self._norm, "NormDiscrete": self._indicator,
            "Discretize": self._discretize, "MapValues": self._map,
        }  # fmt: skip
        if element.tag == "Constant":
            return _constant(element)
        if element.tag == "Apply":
            return self._apply(element, given, depth)
        if element.tag not in readers:
            raise RefusedError(f"{element.tag} is not converted: expected Apply, Constant, {', '.join(readers)}")
        return readers[element.tag](element, given, dtype)  # type: ignore[no-any-return]

    def _of_field(self, name: str, given: Mapping[str, Expression]) -> Expression:
        if name in given:
            return given[name]
        if name not in self.kinds:
            raise RefusedError(f"takes the field '{name[:60]}', which is not in the MiningSchema nor derived before")
        return Expression("field", self.kinds[name], field=name)

    def _number_of(self, element: Element, given: Mapping[str, Expression]) -> Expression:
        found = self._of_field(element.get("field", ""), given)
        if found.kind not in _ORDER:
            raise RefusedError(f"{element.tag} takes the text '{element.get('field', '')[:60]}' for a number")
        return found

    def _field(self, element: Element, given: Mapping[str, Expression], _dtype: str) -> Expression:
        found = self._of_field(element.get("field", ""), given)
        if element.get("mapMissingTo") is None:
            return found
        return Expression("call", found.kind, (found, found), missing=_typed(element.get("mapMissingTo"), found.kind))

    def _norm(self, element: Element, given: Mapping[str, Expression], _dtype: str) -> Expression:
        field = self._number_of(element, given)
        points = tuple((number(p.get("orig", ""), "orig"), number(p.get("norm", ""), "norm"))
                       for p in element.findall("LinearNorm"))  # fmt: skip
        if len(points) < 2 or any(a[0] >= b[0] for a, b in pairwise(points)):
            raise RefusedError("a NormContinuous needs two LinearNorms or more, of rising `orig`")
        outliers = element.get("outliers", "asIs")
        if outliers not in ("asIs", "asMissingValues", "asExtremeValues"):
            raise RefusedError(f"a NormContinuous treats outliers in a way that is not known: '{outliers[:40]}'")
        missing = _typed(element.get("mapMissingTo"), "double")
        return Expression("norm", "double", (field,), points=points, outliers=outliers, missing=missing)

    def _indicator(self, element: Element, given: Mapping[str, Expression], _dtype: str) -> Expression:
        if element.get("method", "indicator") != "indicator":
            raise RefusedError(f"NormDiscrete by '{element.get('method', '')[:40]}' is not converted")
        field = self._of_field(element.get("field", ""), given)
        value = _typed(element.get("value", ""), field.kind)
        missing = _typed(element.get("mapMissingTo"), "double")
        return Expression("indicator", "integer", (field,), value=value, missing=missing)

    def _discretize(self, element: Element, given: Mapping[str, Expression], dtype: str) -> Expression:
        field = self._number_of(element, given)
        found = [(bin_.get("binValue", ""), bin_.find("Interval")) for bin_ in element.findall("DiscretizeBin")]
        kind = _kind_of(element.get("dataType") or dtype, [value for value, _ in found])
        bins = tuple((read_interval(i), _typed_surely(value, kind)) for value, i in found if i is not None)
        if len(bins) != len(found) or not bins:
            raise RefusedError("a Discretize needs bins, each with an Interval")
        ordered = sorted(interval for interval, _ in bins)
        for first, second in pairwise(ordered):
            if second.low < first.high or (second.low == first.high and not (second.open_low or first.open_high)):
                raise RefusedError("two bins of a Discretize overlap, of which evaluators take either: part them")
        return Expression("discretize", kind, (field,), bins=bins, **_stand_ins(element, kind))

    def _map(self, element: Element, given: Mapping[str, Expression], dtype: str) -> Expression:
        pairs = element.findall("FieldColumnPair")
        fields = tuple(self._of_field(pair.get("field", ""), given) for pair in pairs)
        columns = [pair.get("column", "").rpartition(":")[2] for pair in pairs]
        output = element.get("outputColumn", "").rpartition(":")[2]
        table = element.find("InlineTable")
        if table is None or not pairs or not output:
            raise RefusedError("a MapValues needs fields, an InlineTable and an outputColumn: no other table is read")
        found = []
        for row in table.findall("row"):
            cells = {cell.tag: (cell.text or "").strip() for cell in row}
            if not {*columns, output} <= set(cells):
                raise RefusedError("a row of a MapValues lacks a column")
            keys = tuple(_typed_surely(cells[c], f.kind) for c, f in zip(columns, fields, strict=True))
            found.append((keys, cells[output]))
        if len({keys for keys, _ in found}) != len(found) or not found:
            raise RefusedError("a MapValues has no rows, or two for the same values")
        kind = _kind_of(element.get("dataType") or dtype, [value for _, value in found])
        rows = tuple((keys, _typed_surely(value, kind)) for keys, value in found)
        return Expression("map", kind, fields, rows=rows, **_stand_ins(element, kind))

    def _apply(self, element: Element, given: Mapping[str, Expression], depth: int) -> Expression:
        name = element.get("function", "")
        parts = tuple(self._read(child, given, "", depth + 1) for child in element if child.tag != "Extension")
        if name in self._functions:
            return self._called(element, name, parts, depth)
        if name not in _COUNTS:
            raise RefusedError(f"the function '{name[:40]}' is not converted: expected one of {', '.join(_COUNTS)}")
        low, high = _COUNTS[name]
        if not low <= len(parts) <= high:
            raise RefusedError(f"the function '{name}' has {len(parts)} arguments")
        kind = _kind_of_result(name, parts)
        stand_ins = _stand_ins(element, kind)
        if stand_ins["missing"] is not None and name in ("if", "and", "or", "isIn", "isNotIn", "not"):
            raise RefusedError(f"mapMissingTo of the function '{name}' is not converted: write it with isMissing")
        treatment = element.get("invalidValueTreatment", "returnInvalid")
        if treatment not in ("returnInvalid", "asIs", "asMissing"):
            raise RefusedError(f"invalidValueTreatment '{treatment[:40]}' of a function is not converted")
        by_constant = name == "/" and parts[1].operation == "constant" and bool(parts[1].value)
        fails = treatment == "returnInvalid" and (name in _MAKES_NONE or (name == "/" and not by_constant))
        return Expression(name, kind, parts, fails=fails, **stand_ins)

    def _called(self, element: Element, name: str, parts: tuple[Expression, ...], depth: int) -> Expression:
        """A function of the document's own, with its parameters in place."""
        function = self._functions[name]
        parameters = function.findall("ParameterField")
        body = [child for child in function if child.tag not in ("ParameterField", "Extension")]
        casts = {function.get("dataType", "double"), *(p.get("dataType", "double") for p in parameters)}
        if len(parameters) != len(parts) or len(body) != 1 or casts - {"double"}:
            raise RefusedError(f"the function '{name[:40]}' is not of doubles, with as many arguments as it is given")
        given = {p.get("name", ""): part for p, part in zip(parameters, parts, strict=True)}
        found = self._read(body[0], given, "double", depth + 1)
        if found.kind not in _ORDER or any(part.kind not in _ORDER for part in parts):
            raise RefusedError(f"the function '{name[:40]}' is of other things than numbers")
        return Expression("call", "double", (found, *parts), **_stand_ins(element, "double"))


def _constant(element: Element) -> Expression:
    text, dtype = (element.text or "").strip(), element.get("dataType", "")
    if element.get("missing", "false") == "true":
        return Expression("constant", "double")
    if dtype == "boolean" and text in ("true", "false"):
        return Expression("constant", "truth", value=float(text == "true"))
    kind = _kind_of(dtype, [text])
    return Expression("constant", kind, value=_typed_surely(element.text or "" if kind == "text" else text, kind))


def _kind_of(dtype: str, values: Sequence[str]) -> str:
    """Of a declared type, else of what is written."""
    if dtype:
        if dtype not in ("string", *_ORDER):
            raise RefusedError(f"values of the type '{dtype[:40]}' are not converted: make them double, or string")
        return "text" if dtype == "string" else dtype
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return "text"
    whole = all(math.isfinite(x) and "." not in value for x, value in zip(numbers, values, strict=True))
    return "integer" if whole else "double"


def _typed_surely(text: str, kind: str) -> Value:
    if kind == "truth":
        return float(text == "true")
    found = text if kind == "text" else number(text, "value")
    if found != found:
        raise RefusedError("NaN stands for a number, which is not converted: write a missing value as one")
    if kind == "integer" and not float(found).is_integer():
        raise RefusedError(f"'{text[:40]}' is no whole number")
    return found


def _typed(text: str | None, kind: str) -> Value | None:
    return None if text is None else _typed_surely(text, kind)


def _stand_ins(element: Element, kind: str) -> dict[str, Any]:
    return {"missing": _typed(element.get("mapMissingTo"), kind), "default": _typed(element.get("defaultValue"), kind)}


def _kind_of_result(name: str, parts: tuple[Expression, ...]) -> str:
    """Raises RefusedError where the parts are not of the kinds that the function takes."""
    kinds = [part.kind for part in parts]
    if name in ("and", "or", "not", "if"):
        if set(kinds[:1] if name == "if" else kinds) != {"truth"}:
            raise RefusedError(f"the function '{name}' takes what is not a comparison")
        return "truth" if name != "if" else _common(kinds[1:])
    if name in ("isMissing", "isNotMissing"):
        return "truth"
    if name in COMPARED or name in ("isIn", "isNotIn"):
        if (_common(kinds) == "text" and name in COMPARED[2:]) or "truth" in kinds:
            raise RefusedError(f"the function '{name}' compares texts by their order, or truths: compare numbers")
        if name in ("isIn", "isNotIn") and any(part.operation != "constant" for part in parts[1:]):
            raise RefusedError(f"the function '{name}' looks among other things than constants")
        return "truth"
    if set(kinds) - set(_ORDER):
        raise RefusedError(f"the function '{name}' takes a text or a truth for a number")
    if name == "/" and set(kinds) == {"integer"}:
        raise RefusedError("a division of whole numbers is not converted, as evaluators differ: make one double")
    if name in ROUNDED or name == "threshold":
        return "integer"
    return _common(kinds) if name in (*ARITHMETIC, "abs", "min", "max", "sum", "product") else "double"


def _common(kinds: Sequence[str]) -> str:
    if set(kinds) <= set(_ORDER):
        return max(kinds, key=_ORDER.index)
    if len(set(kinds)) != 1:
        raise RefusedError(f"a {' and a '.join(sorted(set(kinds)))} stand where one kind is expected")
    return kinds[0]
