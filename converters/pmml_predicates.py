"""PMML's predicates, read into tests. Pure.

Source: PMML 4.4, dmg.org (TreeModel: SimplePredicate, SimpleSetPredicate, CompoundPredicate).
"""

import re
import struct
from collections.abc import Mapping
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_fields import number
from converters.pmml_model import Test

Element = ElementTree.Element
_OPERATORS = (
    "equal",
    "notEqual",
    "lessThan",
    "lessOrEqual",
    "greaterThan",
    "greaterOrEqual",
    "isMissing",
    "isNotMissing",
)


def tests_of(element: Element) -> tuple[Test, ...]:
    for child in element:
        if child.tag in ("True", "SimplePredicate", "SimpleSetPredicate", "CompoundPredicate"):
            return tuple(_predicate(child))
        if child.tag == "False":
            return (Test("never"),)
    raise RefusedError(f"a {element.tag} has no predicate")


def _predicate(element: Element) -> list[Test]:
    if element.tag == "True":
        return []
    if element.tag == "SimplePredicate":
        operator, value = element.get("operator", ""), element.get("value", "")
        if operator not in _OPERATORS:
            raise RefusedError(f"operator '{operator}' is not converted")
        return [Test(operator, element.get("field", ""), value)]
    if element.tag == "SimpleSetPredicate":
        array = element.findtext("Array") or ""
        found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', array)
        values = tuple(re.sub(r"\\(.)", r"\1", quoted) if quoted else plain for quoted, plain in found)
        return [Test(element.get("booleanOperator", "isIn"), element.get("field", ""), "", values)]
    operator = element.get("booleanOperator", "")
    if element.tag == "False":
        return [Test("never")]
    if element.tag != "CompoundPredicate" or operator not in ("and", "or", "xor", "surrogate"):
        raise RefusedError(
            f"predicates joined by '{operator[:40]}' are not converted: expected and, or, xor, surrogate"
        )
    parts = [_predicate(child) for child in element if child.tag != "Extension"]
    if operator == "and":
        return [test for part in parts for test in part]
    joined = tuple(
        part[0] if len(part) == 1 else Test("and", parts=tuple(part)) if part else Test("always") for part in parts
    )
    return [Test(operator, parts=joined)]


def in_its_type(test: Test, kinds: Mapping[str, str]) -> Test:
    """What is compared has the field's type, of `kinds` (integer, float, double or text, by field): of a `float` field
    it is of single precision. Raises RefusedError."""
    if test.parts:
        return test._replace(parts=tuple(in_its_type(part, kinds) for part in test.parts))
    kind = kinds.get(test.field)
    if kind is None:
        return test
    if kind == "text":
        if test.operator[:4] in ("less", "grea"):
            raise RefusedError(
                f"texts of field '{test.field[:60]}' are compared by their order, which is not converted: "
                "make them numbers"
            )
        return test
    values = (*test.values, *((test.value,) if test.value != "" else ()))
    numbers = [number(str(value), test.field) for value in values]
    if kind == "float":
        try:
            numbers = [struct.unpack("f", struct.pack("f", value))[0] for value in numbers]
        except OverflowError:
            raise RefusedError(f"'{values[0]}' of field '{test.field[:60]}' is no float") from None
    if test.values:
        return test._replace(values=tuple(map(repr, numbers)))
    return test._replace(value=numbers[0]) if numbers else test
