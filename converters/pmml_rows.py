"""PMML's models evaluated row by row, as the standard says. Pure.

Source: PMML 4.4, dmg.org (TreeModel, RegressionModel).
"""

import math

from converters.pmml_model import LINKS, Ensemble, Equation, Node, Row, Test, Tree


def holds(test: Test, row: Row) -> bool | None:
    """None: unknown, since the value is missing."""
    if test.operator in ("never", "always"):
        return test.operator == "always"
    if test.parts:
        return _joined(test.operator, [holds(part, row) for part in test.parts])
    value = row.get(test.field)
    if test.operator in ("isMissing", "isNotMissing"):
        return (value is None) == (test.operator == "isMissing")
    if value is None:
        return None
    if test.operator in ("isIn", "isNotIn"):
        known = value in test.values if isinstance(value, str) else value in map(float, test.values)
        return known == (test.operator == "isIn")
    if isinstance(value, str):
        return (value == test.value) == (test.operator == "equal")
    other = float(test.value)
    return {
        "equal": value == other,
        "notEqual": value != other,
        "lessThan": value < other,
        "lessOrEqual": value <= other,
        "greaterThan": value > other,
        "greaterOrEqual": value >= other,
    }[test.operator]


def _joined(operator: str, answers: list[bool | None]) -> bool | None:
    if operator == "surrogate":
        return next((answer for answer in answers if answer is not None), None)
    if operator == "xor":
        return None if None in answers else sum(map(bool, answers)) % 2 == 1
    decides = operator == "or"
    if decides in answers:
        return decides
    return None if None in answers else not decides


def reached(tree: Tree, row: Row) -> Node | None:
    """The node whose score counts; None: no prediction."""
    node = tree.root
    while node.children:
        found = -1
        for index, child in enumerate(node.children):
            answers = [holds(test, row) for test in child.tests]
            if all(answers):
                found = index
                break
            if False not in answers and node.unknown != "next":
                if node.unknown == "default":
                    found = node.default
                    break
                return node if node.unknown == "last" and node.score else None
        if found < 0:
            return node if tree.last_prediction and node.score else None
        node = node.children[found]
    return node


def counted(model: Ensemble, row: Row) -> list[int]:
    """The places of the members that count for this row; of a selection the first."""
    tests = model.tests or ((),) * len(model.members)
    found = [place for place, asked in enumerate(tests) if all(holds(test, row) for test in asked)]
    return found[:1] if model.method == "selectFirst" else found


def linear(equation: Equation, row: Row) -> float:
    """NaN where a number is missing, or what is needed; a category that is missing else, or unknown, adds nothing."""
    total = equation.intercept
    for name, exponent, coefficient in equation.numbers:
        value = row.get(name)
        total += coefficient * float(value) ** exponent if value is not None else math.nan
    for name, level, coefficient in equation.categories:
        total += coefficient if row.get(name) == level else 0.0
    for factors, coefficient in equation.products:
        for name, exponent, category in factors:
            value = row.get(name)
            if category is not None:
                coefficient *= float(value == category)
            else:
                coefficient *= float(value) ** exponent if value is not None else math.nan
        total += coefficient
    return math.nan if any(row.get(name) is None for name in equation.needed) else total


def linked(normalization: str, value: float) -> float:
    """The inverse of a link; `value` itself where there is none."""
    if math.isnan(value) or normalization not in LINKS:
        return value
    inner = math.exp(min(value if normalization == "cloglog" else -value, 700.0))
    return -math.expm1(-inner) if normalization == "cloglog" else math.exp(-inner)


def shares_of(node: Node | None, classes: tuple[str, ...]) -> list[float]:
    """The classes' probabilities at a leaf: its distribution, else certainty."""
    if node is None:
        return [math.nan] * len(classes)
    counts = dict(node.shares)
    total = sum(counts.values())
    return [counts.get(name, 0.0) / total if total else float(name == node.score) for name in classes]


def votes_of(node: Node | None, classes: tuple[str, ...]) -> list[float]:
    """What a leaf says, which its distribution need not: a tie, costs of errors. Where there is none, no vote."""
    return [float(node is not None and name == node.score) for name in classes]
