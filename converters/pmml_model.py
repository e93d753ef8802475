"""What is read of a PMML document: plain structures. pmml_rows.py evaluates them, pmml_graph.py makes them a graph."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from converters.pmml_derived import Derived
from converters.pmml_fields import Field

LINKS = ("cloglog", "loglog")  # of regressions, beside what RegressionModel had from its beginning
Row = Mapping[str, float | str | None]


class Test(NamedTuple):
    """A simple predicate, or a set of texts (`isIn`); `always` and `never`; or one of `parts` joined by `and`, `or`,
    `xor` or `surrogate`."""

    operator: str
    field: str = ""
    value: float | str = 0.0
    values: tuple[str, ...] = ()
    parts: tuple["Test", ...] = ()


class Node(NamedTuple):
    """`score` as it stands; `shares` of the classes. `unknown`: where a test looks at a missing value, `next` asks the
    next child, `null` predicts nothing, `last` this node's score, and `default` goes to the child at that place."""

    tests: tuple[Test, ...]  # all must hold
    score: str
    shares: tuple[tuple[str, float], ...]
    children: tuple["Node", ...]
    default: int = -1
    unknown: str = "next"


class Tree(NamedTuple):
    root: Node
    classifies: bool
    last_prediction: bool  # where no child's test holds, the node's own score counts


class Equation(NamedTuple):
    """One regression table: `numbers` (field, exponent, coefficient), `categories` (field, value, coefficient; of a
    derived number the value is one). Where one of `needed`, fields of texts, is missing, so is the answer. `products`
    have factors and a coefficient each: (field, exponent, None) of a number, (field, 1, value) for whether it is."""

    target: str
    intercept: float
    numbers: tuple[tuple[str, float, float], ...]
    categories: tuple[tuple[str, str | float, float], ...]
    needed: tuple[str, ...] = ()
    products: tuple[tuple[tuple[tuple[str, float, str | float | None], ...], float], ...] = ()


class Regression(NamedTuple):
    equations: tuple[Equation, ...]
    normalization: str
    classifies: bool


class Ensemble(NamedTuple):
    """`method`: sum, average, weightedSum, weightedAverage, majorityVote, weightedMajorityVote, median, selectFirst.
    `tests` of each member: it counts for a row where they hold; none: all count."""

    method: str
    members: tuple["Model", ...]
    weights: tuple[float, ...]
    classifies: bool
    tests: tuple[tuple[Test, ...], ...] = ()


class Clusters(NamedTuple):
    """`kind`: the metric, of which squared differences (weighted by field) are taken or absolute ones."""

    kind: str
    fields: tuple[str, ...]
    weights: tuple[float, ...]
    names: tuple[str, ...]
    centers: tuple[tuple[float, ...], ...]


class Target(NamedTuple):
    """What is made of a number that is predicted, in this order; `cast`: round, ceiling, floor. `default`: where
    nothing is predicted."""

    low: float = -math.inf
    high: float = math.inf
    factor: float = 1.0
    constant: float = 0.0
    cast: str = ""
    default: float = math.nan


class Step(NamedTuple):
    """A model of a chain, and what those after it see of it as field `name`: its number as `target` makes it, or how
    likely `label` is of its `classes`."""

    name: str
    model: "Model"
    target: Target
    classes: tuple[str, ...]
    label: str


class Chain(NamedTuple):
    """The steps in their order; `last` answers. `derived`: fields, of which some are made of what steps give."""

    steps: tuple[Step, ...]
    last: "Model"
    classifies: bool
    derived: tuple[Derived, ...] = ()


Model = Tree | Regression | Ensemble | Clusters | Chain


class Document(NamedTuple):
    """`outputs`: what the document makes of the model's answer, which is not converted. `derived`: fields made of
    others, in their order; `direct`: those of them that the model itself looks at."""

    fields: tuple[Field, ...]
    model: Model
    classes: tuple[str, ...]
    target: Target
    outputs: tuple[str, ...] = ()
    derived: tuple[Derived, ...] = ()
    direct: frozenset[str] = frozenset()


def walked(model: Model) -> Iterator[Any]:
    """The model, and whatever is in it: models, nodes of trees and their tests."""
    stack: list[Any] = [model]
    while stack:
        item = stack.pop()
        yield item
        if isinstance(item, Ensemble):
            stack.extend((*item.members, *(test for tests in item.tests for test in tests)))
        elif isinstance(item, Chain):
            stack.extend((*(step.model for step in item.steps), item.last))
        elif isinstance(item, Tree):
            stack.append(item.root)
        elif isinstance(item, Node):
            stack.extend((*item.children, *item.tests))
        elif isinstance(item, Test):
            stack.extend(item.parts)
