"""PMML's regressions, of tables or general, as equations. Pure.

`derived_numbers` are the derived fields that are numbers: what one of them is compared with is a number, too.
Source: PMML 4.4, dmg.org (RegressionModel: RegressionTable, its predictors and normalizationMethod).
"""

import math
from collections.abc import Collection, Mapping
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_fields import number
from converters.pmml_general import read_general
from converters.pmml_model import LINKS, Equation, Regression

Element = ElementTree.Element


def read_regression(element: Element, derived_numbers: Collection[str]) -> Regression:
    """A RegressionModel. Raises RefusedError."""
    normalization = element.get("normalizationMethod", "none")
    classifies = element.get("functionName") == "classification"
    equations = tuple(_typed(_equation(table), derived_numbers) for table in element.findall("RegressionTable"))
    known = ("none", "softmax", "logit", "simplemax" if classifies else "exp", *LINKS)
    if normalization not in known or (normalization in LINKS and len(equations) > 2):
        raise RefusedError(
            f"normalizationMethod '{normalization}' is not converted of {len(equations)} equations of a "
            f"{element.get('functionName', '')[:40]}: expected one of {', '.join(known[:4])}"
        )
    if not equations or (len(equations) > 1 and not classifies):
        raise RefusedError(f"a regression has {len(equations)} tables: expected one, or one of each class")
    return Regression(equations, normalization, classifies)


def read_general_regression(
    element: Element, derived_numbers: Collection[str], values: Mapping[str, tuple[str, ...]]
) -> Regression:
    """A GeneralRegressionModel; `values`: those that each field of the dictionary lists. Raises RefusedError."""
    read = read_general(element, values)
    equations = []
    for target, terms in read.equations:
        intercept = math.fsum(beta for parameters, beta in terms if not parameters)
        named = [(parameters[0], beta) for parameters, beta in terms if len(parameters) == 1]
        products = tuple((tuple(parameters), beta) for parameters, beta in terms if len(parameters) > 1)
        numbers = tuple((p.field, p.exponent, beta) for p, beta in named if p.category is None)
        categories = tuple((p.field, p.category, beta) for p, beta in named if p.category is not None)
        equations.append(
            _typed(Equation(target, intercept, numbers, categories, read.factors, products), derived_numbers)
        )
    return Regression(tuple(equations), read.normalization, element.get("functionName") == "classification")


def _typed(equation: Equation, derived_numbers: Collection[str]) -> Equation:
    """What a derived number is compared with is a number."""
    categories = tuple(
        (name, number(str(level), name) if name in derived_numbers else level, coefficient)
        for name, level, coefficient in equation.categories
    )
    return equation._replace(categories=categories)


def _equation(element: Element) -> Equation:
    products = []
    for term in element.findall("PredictorTerm"):
        named = [(ref.get("field", ""), 1.0, None) for ref in term.findall("FieldRef")]
        if not named or any(ref.get("mapMissingTo") is not None for ref in term.iter("FieldRef")):
            raise RefusedError("a PredictorTerm needs fields, without mapMissingTo: make it a field of its own")
        products.append((tuple(named), number(term.get("coefficient", ""), "PredictorTerm")))
    numbers = [
        (p.get("name", ""), number(p.get("exponent", "1"), "exponent"), number(p.get("coefficient", ""), "coefficient"))
        for p in element.findall("NumericPredictor")
    ]
    categories = [
        (p.get("name", ""), p.get("value", ""), number(p.get("coefficient", ""), "coefficient"))
        for p in element.findall("CategoricalPredictor")
    ]
    intercept = number(element.get("intercept", "0"), "intercept")
    return Equation(
        element.get("targetCategory", ""), intercept, tuple(numbers), tuple(categories), products=tuple(products),
    )  # fmt: skip
