"""PMML's GeneralRegressionModel, as R's tools write it of `lm`, `glm` and `multinom`, read as regression. Pure.

Source: PMML 4.4, dmg.org (GeneralRegressionModel). Its factors are indicators of one category each.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_fields import number

Element = ElementTree.Element
_BINARY_LINKS = ("logit", "cloglog", "loglog")
_LINKS = {"identity": "none", "log": "exp"} | {link: link for link in _BINARY_LINKS}
_KINDS = ("regression", "generalLinear", "generalizedLinear", "multinomialLogistic")


class Parameter(NamedTuple):
    """A factor of what a coefficient goes with: a number's power, or whether a field is of a category."""

    field: str
    exponent: float = 1.0
    category: str | None = None


Parameters = tuple[Parameter, ...]  # their product; none: an intercept


class Equation(NamedTuple):
    """The terms of one class, or of the only value; `target` is "" for that."""

    target: str
    terms: tuple[tuple[Parameters, float], ...]


class General(NamedTuple):
    """`normalization` in the words of RegressionModel; `factors` must not be missing."""

    equations: tuple[Equation, ...]
    normalization: str
    factors: tuple[str, ...]


def read_general(element: Element, values: Mapping[str, tuple[str, ...]]) -> General:
    """`values` are what each field of the document may be. Raises RefusedError where it is a model of another kind."""
    _refuse_others(element)
    kind, classifies = element.get("modelType", ""), element.get("functionName") == "classification"
    factors = tuple(_names(element, "FactorList"))
    link = element.get("linkFunction", "identity") if kind == "generalizedLinear" else "identity"
    if link not in _LINKS:
        raise RefusedError(f"the link '{link}' is not converted: expected {', '.join(_LINKS)}")
    offset = number(element.get("offsetValue", "0"), "offsetValue") if kind == "generalizedLinear" else 0.0
    found = _coefficients(element, _parameters(element, factors))
    if classifies:
        classes = values.get(element.get("targetVariableName") or _target(element), ())
        if kind == "multinomialLogistic":
            return General(_of_all(found, classes), "softmax", factors)
        if link not in _BINARY_LINKS:
            raise RefusedError(
                f"classes by a GeneralRegressionModel are taken with the links {', '.join(_BINARY_LINKS)}"
            )
        return General((_of_two(found, classes, element.get("targetReferenceCategory"), offset),), link, factors)
    if len(found) != 1:
        raise RefusedError("a regression has coefficients of several targets")
    (terms,) = found.values()
    return General((_equation("", terms, offset),), _LINKS[link], factors)


def _refuse_others(element: Element) -> None:
    if (kind := element.get("modelType", "")) not in _KINDS:
        raise RefusedError(f"a GeneralRegressionModel of type '{kind}' is not converted: expected {', '.join(_KINDS)}")
    for word in ("offsetVariable", "trialsVariable", "cumulativeLink", "baselineStrataVariable"):
        if element.get(word):
            raise RefusedError(f"a GeneralRegressionModel with {word} is not converted: fit it without")
    if element.get("trialsValue", "1") not in ("", "1"):
        raise RefusedError("a GeneralRegressionModel of several trials (trialsValue) is not converted: fit it of one")
    if any(len(predictor) for predictor in element.findall("FactorList/Predictor")):
        raise RefusedError("factors with contrasts of their own (Matrix) are not converted: fit them as indicators")


def _coefficients(element: Element, parameters: Mapping[str, Parameters]) -> dict[str, list[tuple[Parameters, float]]]:
    """By the class that they are for; "" where none is named."""
    found: dict[str, list[tuple[Parameters, float]]] = {}
    for cell in element.iter("PCell"):
        parameter = parameters.get(cell.get("parameterName", ""))
        if parameter is None:
            raise RefusedError(f"parameter '{cell.get('parameterName', '')[:60]}' is not in the ParameterList")
        found.setdefault(cell.get("targetCategory", ""), []).append((parameter, number(cell.get("beta", ""), "beta")))
    if not found:
        raise RefusedError("a GeneralRegressionModel has no ParamMatrix")
    return found


def _of_all(found: Mapping[str, list[tuple[Parameters, float]]], classes: Sequence[str]) -> tuple[Equation, ...]:
    others = [name for name in classes if name not in found]
    if len(others) != 1 or not set(found) <= set(classes):
        raise RefusedError("the coefficients are not those of all classes but one that the target's field lists")
    return (*(_equation(name, terms, 0.0) for name, terms in found.items()), Equation(others[0], ()))


def _of_two(
    found: Mapping[str, list[tuple[Parameters, float]]], classes: Sequence[str], reference: str | None, offset: float
) -> Equation:
    if len(found) != 1 or len(classes) != 2:
        raise RefusedError("a GeneralRegressionModel with a link is taken for two classes, which its field lists")
    ((named, terms),) = found.items()
    named = named or next((name for name in classes if reference in classes and name != reference), "")
    if named not in classes:
        raise RefusedError("which class the probability is of is not said: expected targetReferenceCategory")
    return _equation(named, terms, offset)


def _equation(target: str, terms: list[tuple[Parameters, float]], offset: float) -> Equation:
    return Equation(target, (*terms, *((((), offset),) if offset else ())))


def _parameters(element: Element, factors: tuple[str, ...]) -> dict[str, Parameters]:
    found: dict[str, Parameters] = {name.get("name", ""): () for name in element.findall("ParameterList/Parameter")}
    for cell in element.findall("PPMatrix/PPCell"):
        name, field, value = (cell.get(word, "") for word in ("parameterName", "predictorName", "value"))
        if cell.get("targetCategory"):
            raise RefusedError("parameters that differ by class (PPCell targetCategory) are not converted")
        if name not in found or any(p.field == field for p in found[name]):
            raise RefusedError(f"parameter '{name[:60]}' is not listed, or has field '{field[:60]}' twice")
        try:
            one = Parameter(field, category=value) if field in factors else Parameter(field, float(value))
            found[name] = (*found[name], one)
        except ValueError:
            raise RefusedError(f"the exponent '{value[:60]}' of field '{field[:60]}' is no number") from None
    return found


def _names(element: Element, listed: str) -> list[str]:
    return [predictor.get("name", "") for predictor in element.findall(f"{listed}/Predictor")]


def _target(element: Element) -> str:
    fields = element.findall("MiningSchema/MiningField")
    return next((f.get("name", "") for f in fields if f.get("usageType") in ("target", "predicted")), "")
