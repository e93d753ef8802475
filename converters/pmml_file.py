"""PMML, read into plain structures and evaluated row by row as the standard says. Pure.

Of the standard: regression (general regression by pmml_general.py), trees and their ensembles, k-means. What else a
document holds is refused by name, as is whatever would change the meaning of what is read.
Source: PMML 4.4, dmg.org (RegressionModel, TreeModel, MiningModel, ClusteringModel, MiningSchema).
"""

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_general import read_general

MAX_ELEMENTS = 5_000_000
Row = Mapping[str, float | str | None]
Element = ElementTree.Element


class Field(NamedTuple):
    """An active field. `levels`: the values of a categorical one; none: a number. `replacement` of a missing value."""

    name: str
    levels: tuple[str, ...]
    replacement: str | None
    low: float = 0.0
    high: float = 1.0
    is_single: bool = False  # its numbers are of single precision, and so are compared

    @property
    def is_text(self) -> bool:
        return bool(self.levels)


class Test(NamedTuple):
    """A simple predicate, or a set of texts (`isIn`); `always` is True."""

    operator: str
    field: str = ""
    value: float | str = 0.0
    values: tuple[str, ...] = ()


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
    """One regression table: `numbers` (field, exponent, coefficient), `categories` (field, value, coefficient). Where
    one of `needed`, fields of texts, is missing, so is the answer."""

    target: str
    intercept: float
    numbers: tuple[tuple[str, float, float], ...]
    categories: tuple[tuple[str, str, float], ...]
    needed: tuple[str, ...] = ()


class Regression(NamedTuple):
    equations: tuple[Equation, ...]
    normalization: str
    classifies: bool


class Ensemble(NamedTuple):
    """`method`: sum, average, weightedAverage, majorityVote, weightedMajorityVote."""

    method: str
    members: tuple["Model", ...]
    weights: tuple[float, ...]
    classifies: bool


class Clusters(NamedTuple):
    """`kind`: the metric, of which squared differences (weighted by field) are taken or absolute ones."""

    kind: str
    fields: tuple[str, ...]
    weights: tuple[float, ...]
    names: tuple[str, ...]
    centers: tuple[tuple[float, ...], ...]


Model = Tree | Regression | Ensemble | Clusters


class Document(NamedTuple):
    """`factor` and `constant` rescale a number that is predicted."""

    fields: tuple[Field, ...]
    model: Model
    classes: tuple[str, ...]
    factor: float = 1.0
    constant: float = 0.0


_MODELS = ("TreeModel", "RegressionModel", "GeneralRegressionModel", "MiningModel", "ClusteringModel")
_KNOWN_ELSEWHERE = re.compile(r".*Model|Scorecard")


def read_pmml(text: bytes) -> Document:
    """Raises RefusedError where the document is damaged, or holds what is not read here."""
    if b"<!ENTITY" in text or b"<!DOCTYPE" in text:
        raise RefusedError("the document declares entities, which no model needs: take its DOCTYPE out")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314
    except ElementTree.ParseError as error:
        raise RefusedError(f"the document is no sound XML: {error}") from None
    for count, element in enumerate(root.iter()):
        if count > MAX_ELEMENTS:
            raise RefusedError(f"the document has more than {MAX_ELEMENTS} elements, more than can be converted")
        element.tag = element.tag.rpartition("}")[2]
    found = [child for child in root if _KNOWN_ELSEWHERE.fullmatch(child.tag)]
    if len(found) != 1 or found[0].tag not in _MODELS:
        names = ", ".join(child.tag for child in found) or "no model"
        raise RefusedError(f"the document holds {names}: expected one of {', '.join(_MODELS)}")
    if root.find("TransformationDictionary") is not None and len(root.find("TransformationDictionary") or ()):
        raise RefusedError("the document transforms its fields before the model: export the model alone")
    return _Reader(root, found[0]).document()


class _Reader:
    def __init__(self, root: Element, model: Element) -> None:
        self._model = model
        self._dictionary = {field.get("name", ""): field for field in root.iter("DataField")}

    def document(self) -> Document:
        schema = self._model.find("MiningSchema")
        if schema is None:
            raise RefusedError("the model has no MiningSchema")
        used = [field for field in schema if field.get("usageType", "active") == "active"]
        target = next((f.get("name", "") for f in schema if f.get("usageType") in ("target", "predicted")), "")
        model = self.read(self._model)
        factor, constant = self._rescale()
        return Document(
            tuple(self._field(field) for field in used), model, self._classes(target, model), factor, constant
        )

    def _field(self, mining: Element) -> Field:
        name = mining.get("name", "")
        declared = self._dictionary.get(name)
        if declared is None:
            raise RefusedError(f"field '{name}' of the MiningSchema is not in the DataDictionary")
        if mining.get("outliers", "asIs") != "asIs" or mining.get("invalidValueTreatment", "") == "asMissing":
            raise RefusedError(f"field '{name}' treats outliers or invalid values in a way that is not converted")
        levels: tuple[str, ...] = ()
        if declared.get("dataType") == "string" or declared.get("optype") == "categorical":
            values = [
                value.get("value", "") for value in declared.iter("Value") if value.get("property", "valid") == "valid"
            ]
            levels = tuple(values) or ("",)
        interval = declared.find("Interval")
        low, high = (
            float((interval.get(side) if interval is not None else None) or default)
            for side, default in (("leftMargin", 0.0), ("rightMargin", 1.0))
        )
        return Field(
            name, levels, mining.get("missingValueReplacement"), low, high, declared.get("dataType") == "float"
        )

    def _rescale(self) -> tuple[float, float]:
        target = self._model.find("Targets/Target")
        if target is None:
            return 1.0, 0.0
        if target.get("castInteger") or target.get("min") or target.get("max"):
            raise RefusedError("the target is bounded or rounded, which is not converted")
        return float(target.get("rescaleFactor", 1.0)), float(target.get("rescaleConstant", 0.0))

    def _classes(self, target: str, model: Model) -> tuple[str, ...]:
        if isinstance(model, Clusters) or not model.classifies:
            return ()
        declared = self._dictionary.get(target)
        named = [value.get("value", "") for value in declared.iter("Value")] if declared is not None else []
        return tuple(dict.fromkeys([*named, *_classes_within(model)]))

    def read(self, element: Element) -> Model:
        if element.find("LocalTransformations") is not None and len(element.find("LocalTransformations") or ()):
            raise RefusedError("the model transforms its fields itself (LocalTransformations): export it without")
        readers: dict[str, Callable[[Element], Model]] = {
            "TreeModel": self._tree,
            "RegressionModel": self._regression,
            "GeneralRegressionModel": self._general,
            "MiningModel": self._ensemble,
            "ClusteringModel": self._clusters,
        }
        if element.tag not in readers:
            raise RefusedError(
                f"{element.tag} within an ensemble is not converted: expected one of {', '.join(_MODELS)}"
            )
        return readers[element.tag](element)

    def _tree(self, element: Element) -> Tree:
        strategy = element.get("missingValueStrategy", "none")
        if strategy not in ("none", "defaultChild", "lastPrediction", "nullPrediction"):
            raise RefusedError(f"missingValueStrategy '{strategy}' is not converted: expected none or defaultChild")
        node = element.find("Node")
        if node is None:
            raise RefusedError("a TreeModel has no Node")
        if _tests(node):
            raise RefusedError("a tree that holds for some rows alone is not converted")
        last = element.get("noTrueChildStrategy", "returnNullPrediction") == "returnLastPrediction"
        return Tree(self._node(node, strategy), element.get("functionName") == "classification", last)

    def _node(self, element: Element, strategy: str) -> Node:
        found = element.findall("Node")
        default = element.get("defaultChild")
        place = next((i for i, child in enumerate(found) if default is not None and child.get("id") == default), -1)
        shares = tuple(
            (d.get("value", ""), float(d.get("recordCount", 0))) for d in element.findall("ScoreDistribution")
        )
        children = tuple(self._node(child, strategy) for child in found)
        unknown = {"nullPrediction": "null", "lastPrediction": "last"}.get(strategy, "next")
        if strategy == "defaultChild" and place >= 0:
            unknown = "default"
        tests = tuple(self._in_its_type(test) for test in _tests(element))
        return Node(tests, element.get("score", ""), shares, children, place, unknown)

    def _in_its_type(self, test: Test) -> Test:
        """What is compared has the field's type: of a `float` field it is of single precision."""
        field = self._dictionary.get(test.field)
        if field is None or field.get("dataType") != "float" or test.value == "":
            return test
        try:
            (value,) = struct.unpack("f", struct.pack("f", float(test.value)))
        except (ValueError, OverflowError):
            raise RefusedError(f"'{test.value}' of field '{test.field[:60]}' is no number") from None
        return test._replace(value=float(value))

    def _regression(self, element: Element) -> Regression:
        normalization = element.get("normalizationMethod", "none")
        if normalization not in ("none", "softmax", "logit", "exp", "simplemax"):
            raise RefusedError(f"normalizationMethod '{normalization}' is not converted")
        return Regression(
            tuple(map(_equation, element.findall("RegressionTable"))),
            normalization,
            element.get("functionName") == "classification",
        )

    def _general(self, element: Element) -> Regression:
        values = {
            name: tuple(value.get("value", "") for value in field.iter("Value"))
            for name, field in self._dictionary.items()
        }
        read = read_general(element, values)
        equations = []
        for target, terms in read.equations:
            intercept = math.fsum(beta for parameter, beta in terms if not parameter.field)
            named = [(parameter, beta) for parameter, beta in terms if parameter.field]
            numbers = tuple((p.field, p.exponent, beta) for p, beta in named if p.category is None)
            categories = tuple((p.field, p.category, beta) for p, beta in named if p.category is not None)
            equations.append(Equation(target, intercept, numbers, categories, read.factors))
        return Regression(tuple(equations), read.normalization, element.get("functionName") == "classification")

    def _ensemble(self, element: Element) -> Ensemble:
        segmentation = element.find("Segmentation")
        method = segmentation.get("multipleModelMethod", "") if segmentation is not None else ""
        if method not in ("sum", "average", "weightedAverage", "weightedSum", "majorityVote", "weightedMajorityVote"):
            raise RefusedError(f"an ensemble by '{method}' is not converted: expected sum, average, or a vote")
        members, weights = [], []
        for segment in segmentation.findall("Segment") if segmentation is not None else ():
            if segment.find("True") is None:
                raise RefusedError("a segment that holds for some rows alone is not converted")
            members.append(
                self.read(
                    next(c for c in segment if c.tag in (*_MODELS, "Scorecard") or _KNOWN_ELSEWHERE.fullmatch(c.tag))
                )
            )
            weights.append(float(segment.get("weight", 1.0)))
        return Ensemble(method, tuple(members), tuple(weights), element.get("functionName") == "classification")

    def _clusters(self, element: Element) -> Clusters:
        measure = element.find("ComparisonMeasure")
        kind = measure[0].tag if measure is not None and len(measure) else ""
        if kind not in ("squaredEuclidean", "euclidean", "cityBlock") or element.get("modelClass") != "centerBased":
            raise RefusedError(f"clusters by '{kind}' are not converted: expected centres, euclidean or cityBlock")
        if measure is not None and measure.get("compareFunction", "absDiff") != "absDiff":
            raise RefusedError("clusters that compare in another way than by differences are not converted")
        fields = element.findall("ClusteringField")
        clusters = element.findall("Cluster")
        centers = tuple(tuple(map(float, (cluster.findtext("Array") or "").split())) for cluster in clusters)
        names = tuple(cluster.get("id") or str(index) for index, cluster in enumerate(clusters, 1))
        if not centers or any(len(center) != len(fields) for center in centers):
            raise RefusedError("the clusters' centres do not go with the fields")
        weights = tuple(float(field.get("fieldWeight", 1.0)) for field in fields)
        return Clusters(kind, tuple(field.get("field", "") for field in fields), weights, names, centers)


def _equation(element: Element) -> Equation:
    if element.find("PredictorTerm") is not None:
        raise RefusedError("products of fields (PredictorTerm) are not converted: make them a field of their own")
    numbers = [
        (p.get("name", ""), int(p.get("exponent", 1)), float(p.get("coefficient", 0)))
        for p in element.findall("NumericPredictor")
    ]
    categories = [
        (p.get("name", ""), p.get("value", ""), float(p.get("coefficient", 0)))
        for p in element.findall("CategoricalPredictor")
    ]
    return Equation(
        element.get("targetCategory", ""), float(element.get("intercept", 0)), tuple(numbers), tuple(categories)
    )


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


def _tests(element: Element) -> tuple[Test, ...]:
    for child in element:
        if child.tag in ("True", "SimplePredicate", "SimpleSetPredicate", "CompoundPredicate"):
            return tuple(_predicate(child))
        if child.tag == "False":
            return (Test("never"),)
    raise RefusedError("a Node has no predicate")


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
        values = tuple(a or b for a, b in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', array))
        return [Test(element.get("booleanOperator", "isIn"), element.get("field", ""), "", values)]
    if element.get("booleanOperator") == "and":
        return [test for child in element if child.tag != "Extension" for test in _predicate(child)]
    if element.get("booleanOperator") == "surrogate" and len(element):
        raise RefusedError("surrogate predicates are not converted: export the tree without surrogates")
    raise RefusedError(f"predicates joined by '{element.get('booleanOperator')}' are not converted: only 'and' is")


def _classes_within(model: Model) -> list[str]:
    if isinstance(model, Regression):
        return [equation.target for equation in model.equations]
    if isinstance(model, Ensemble):
        return [name for member in model.members for name in _classes_within(member)]
    if isinstance(model, Clusters):
        return []
    found: dict[str, None] = {}
    stack = [model.root]
    while stack:
        node = stack.pop()
        found.update(
            {name: None for name, _ in node.shares} or ({node.score: None} if node.score and not node.children else {})
        )
        stack.extend(node.children)
    return list(found)


# Evaluation, row by row.


def holds(test: Test, row: Row) -> bool | None:
    """None: unknown, since the value is missing."""
    if test.operator in ("never", "always"):
        return test.operator == "always"
    value = row.get(test.field)
    if test.operator in ("isMissing", "isNotMissing"):
        return (value is None) == (test.operator == "isMissing")
    if value is None:
        return None
    if test.operator in ("isIn", "isNotIn"):
        return (_text(value) in test.values) == (test.operator == "isIn")
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


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


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


def linear(equation: Equation, row: Row) -> float:
    """NaN where a number is missing, or what is needed; a category that is missing else, or unknown, adds nothing."""
    total = equation.intercept
    for name, exponent, coefficient in equation.numbers:
        value = row.get(name)
        total += coefficient * float(value) ** exponent if value is not None else math.nan
    for name, level, coefficient in equation.categories:
        total += coefficient if row.get(name) == level else 0.0
    return math.nan if any(row.get(name) is None for name in equation.needed) else total


def shares_of(node: Node | None, classes: tuple[str, ...]) -> list[float]:
    """The classes' probabilities at a leaf: its distribution, else certainty."""
    if node is None:
        return [math.nan] * len(classes)
    counts = dict(node.shares)
    total = sum(counts.values())
    return [counts.get(name, 0.0) / total if total else float(name == node.score) for name in classes]
