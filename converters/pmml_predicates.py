"""PMML's predicates, read into tests. Pure.

Source: PMML 4.4, dmg.org (TreeModel: SimplePredicate, SimpleSetPredicate, CompoundPredicate).
"""

import re
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
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
