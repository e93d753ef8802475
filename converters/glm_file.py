"""A generalised linear model's coefficients, as R's glm and statsmodels can write them: the form, and its meaning.

Pure. The form is in docs/converters/glm.md; terms are named as R (`sexmale`, `age:sexmale`, `I(age^2)`) or patsy and
statsmodels (`sex[T.male]`, `C(sex)[T.male]`, `const`) name them.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError

LINKS = ("identity", "log", "logit", "probit", "cloglog", "cauchit", "inverse", "sqrt", "1/mu^2")
_CANONICAL = {
    "gaussian": "identity", "binomial": "logit", "poisson": "log", "gamma": "inverse", "inverse.gaussian": "1/mu^2",
    "quasibinomial": "logit", "quasipoisson": "log", "negativebinomial": "log", "inversegaussian": "1/mu^2",
}  # fmt: skip
_INTERCEPTS = ("(Intercept)", "Intercept", "const", "intercept")
_POWER = re.compile(r"I\((.+?)\s*(?:\^|\*\*)\s*(\d)\)")
_FUNCTION = re.compile(r"(?:np\.|I\(np\.)?(log|sqrt|exp|log1p)\((.+?)\)\)?")
_LEVEL = re.compile(r"(?:C\()?(.+?)(?:, .*)?\)?\[(?:T\.|S\.)?(.*)\]")
_NAME = re.compile(r"[\w.][\w.\- ]{0,119}")
MAX_TERMS = 100_000


class Factor(NamedTuple):
    """One of what a term multiplies: a variable to a power, a function of it, or whether it is this level."""

    variable: str
    kind: str  # `power`, `level`, or a function's name
    power: int = 1
    level: str = ""


class Term(NamedTuple):
    coefficient: float
    factors: tuple[Factor, ...]  # none: the intercept


class Glm(NamedTuple):
    """`levels` by factor, the first being the reference; `numbers` are the other variables, in order."""

    family: str
    link: str
    terms: tuple[Term, ...]
    numbers: tuple[str, ...]
    levels: dict[str, tuple[str, ...]]


def read_glm(text: str) -> Glm:
    """Raises RefusedError where the file is not of the form, or a term cannot be understood."""
    table = json.loads(text) if text.lstrip().startswith("{") else _from_csv(text)
    family = re.sub(r"[ _]", "", str(table.get("family", "gaussian"))).lower()
    link = str(table.get("link") or _CANONICAL.get(family, "")).lower().replace("inverse_squared", "1/mu^2")
    if link not in LINKS:
        raise RefusedError(f"link '{link[:40]}' is not known: expected one of {', '.join(LINKS)}")
    coefficients, factors = table.get("coefficients"), table.get("factors", {})
    if not isinstance(coefficients, dict) or not 0 < len(coefficients) <= MAX_TERMS or not isinstance(factors, dict):
        raise RefusedError("expected 'coefficients' as an object of term and number, and 'factors' of name and levels")
    levels = {str(name): tuple(map(str, found)) for name, found in factors.items()}
    terms = []
    for name, value in coefficients.items():
        if value is None:  # R's NA: the term is a sum of others, and left out
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RefusedError(f"the coefficient of '{name[:60]}' is no number")
        terms.append(Term(float(value), _term(str(name), levels)))
    used = {f.variable: None for term in terms for f in term.factors if f.kind != "level"}
    if not used and not levels:
        raise RefusedError("the model is a constant: it has no variable")

    return Glm(family, link, tuple(terms), tuple(name for name in used if name not in levels), levels)


def _from_csv(text: str) -> dict[str, object]:
    """`# glm family=poisson link=log`, `# factor sex: female, male`, then `term,estimate` lines."""
    import csv

    table: dict[str, object] = {}
    factors: dict[str, list[str]] = {}
    rows = []
    for line in text.splitlines():
        if line.startswith("# factor "):
            name, _, found = line[9:].partition(":")
            factors[name.strip()] = [level.strip() for level in found.split(",")]
        elif line.startswith("#"):
            table.update(dict(word.split("=", 1) for word in line[1:].split() if "=" in word))
        elif line.strip():
            rows.append(line)
    found_rows = list(csv.reader(rows))
    coefficients: dict[str, float | None] = {}
    for row in found_rows:
        if len(row) < 2:
            raise RefusedError(f"'{','.join(row)[:60]}' is no coefficient: expected term,estimate")
        try:
            coefficients[row[0]] = None if row[1].strip() in ("NA", "") else float(row[1])
        except ValueError:
            if coefficients:
                raise RefusedError(f"the estimate of '{row[0][:60]}' is no number") from None  # else it is the header
    return {**table, "coefficients": coefficients, "factors": factors}


def _term(name: str, levels: dict[str, tuple[str, ...]]) -> tuple[Factor, ...]:
    if name in _INTERCEPTS:
        return ()
    return tuple(_factor(part, name, levels) for part in re.split(r"(?<!:):(?!:)", name))


def _factor(part: str, term: str, levels: dict[str, tuple[str, ...]]) -> Factor:
    if match := _LEVEL.fullmatch(part):
        if match[2] not in levels.get(match[1], ()):
            raise RefusedError(
                f"term '{term[:60]}' speaks of a level that 'factors' does not list for '{match[1][:60]}'"
            )
        return Factor(match[1], "level", level=match[2])
    for variable, found in levels.items():
        if part.startswith(variable) and part[len(variable) :] in found:
            return Factor(variable, "level", level=part[len(variable) :])
    if match := _POWER.fullmatch(part):
        return Factor(match[1], "power", int(match[2]))
    if match := _FUNCTION.fullmatch(part):
        return Factor(match[2], match[1])
    if not _NAME.fullmatch(part) or part in levels:
        raise RefusedError(
            f"'{term[:60]}' is not understood: expected variables, levels of 'factors', I(x^2), log(x), "
            "sqrt(x), exp(x), and ':' between them. What is of another form (splines, poly) is to be a column"
        )
    return Factor(part, "power")


def respond(model: Glm, columns: dict[str, NDArray[np.generic]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The linear predictor and the mean, for columns of numbers and texts; NaN for a level that is not known."""
    rows = len(next(iter(columns.values())))
    eta = np.zeros(rows)
    for term in model.terms:
        product = np.full(rows, term.coefficient)
        for factor in term.factors:
            product = product * _value(factor, columns[factor.variable])
        eta += product
    for variable, found in model.levels.items():
        eta[~np.isin(columns[variable].astype(str), found)] = np.nan
    return eta, mean(model.link, eta)


def _value(factor: Factor, column: NDArray[np.generic]) -> NDArray[np.float64]:
    if factor.kind == "level":
        return np.asarray(column.astype(str) == factor.level, np.float64)
    numbers = column.astype(np.float64)
    if factor.kind == "power":
        return np.asarray(numbers**factor.power)
    function = {"log": np.log, "sqrt": np.sqrt, "exp": np.exp, "log1p": np.log1p}[factor.kind]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(function(numbers))


def mean(link: str, eta: NDArray[np.float64]) -> NDArray[np.float64]:
    """The link's inverse. Source: McCullagh and Nelder, Generalized Linear Models, 2.2.4 and 4.3.1."""
    from math import erfc

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if link == "probit":
            return np.array([0.5 * erfc(-value / 2**0.5) for value in eta])
        inverses: dict[str, Callable[[NDArray[np.float64]], Any]] = {
            "identity": lambda e: e,
            "log": np.exp,
            "logit": lambda e: 1 / (1 + np.exp(-e)),
            "cloglog": lambda e: -np.expm1(-np.exp(e)),
            "cauchit": lambda e: 0.5 + np.arctan(e) / np.pi,
            "inverse": lambda e: 1 / e,
            "sqrt": lambda e: e**2,
            "1/mu^2": lambda e: 1 / np.sqrt(e),
        }
        return np.asarray(inverses[link](eta))
