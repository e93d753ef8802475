"""PMML as ONNX operators, in double: trees become one TreeEnsemble, over numbers and what tests say of texts.

In the process of a conversion.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from appliance.core.errors import RefusedError
from converters.column_graph import ColumnGraph
from converters.pmml_derived import looked_at
from converters.pmml_derived_graph import DerivedGraph
from converters.pmml_field_graph import FieldGraph
from converters.pmml_model import (
    Chain,
    Clusters,
    Document,
    Ensemble,
    Equation,
    Model,
    Node,
    Regression,
    Target,
    Test,
    Tree,
)
from converters.pmml_rows import shares_of, votes_of

_MODES = {
    "lessThan": "BRANCH_LT", "lessOrEqual": "BRANCH_LEQ", "greaterThan": "BRANCH_GT", "greaterOrEqual": "BRANCH_GTE",
    "equal": "BRANCH_EQ", "notEqual": "BRANCH_NEQ",
}  # fmt: skip
_COMPARED = {
    "lessThan": "Less", "lessOrEqual": "LessOrEqual", "greaterThan": "Greater", "greaterOrEqual": "GreaterOrEqual",
}  # fmt: skip
MAX_NODES = 2_000_000


def write(document: Document, target: Path) -> None:
    """Raises RefusedError where the model is of a form that has no graph here."""
    g = ColumnGraph()
    inputs = _Inputs(g, document)
    model, classes = document.model, document.classes
    if isinstance(model, Clusters):
        _clusters(g, inputs, model, inputs.without_answer())
    elif classes:
        shares = _values(g, inputs, model, classes)
        shares = _answered(g, shares, inputs.without_answer())
        says = _trees(g, inputs, (model,), (1.0,), classes, votes=True) if isinstance(model, Tree) else shares
        best = g.node("Gather", g.value(classes, "BYTES"), g.node("ArgMax", says, axis=1, keepdims=0))
        g.give("label", _where_any(g, shares, best), "BYTES")
        g.give("probabilities", *_precise(g, shares, model), len(classes))
    else:
        value = _told(g, _values(g, inputs, model, ()), document.target)
        value = _answered(g, value, inputs.without_answer())
        g.give("value", *_precise(g, g.shaped(value, [-1]), model))
    g.save(target)


def _answered(g: ColumnGraph, value: str, without_answer: str) -> str:
    return g.node("Where", without_answer, g.value(np.nan), value) if without_answer else value


def _where_any(g: ColumnGraph, numbers: str, label: str) -> str:
    """An empty text where the row's numbers are none."""
    gaps = g.node("ReduceMax", g.to(g.node("IsNaN", numbers), "INT64"), g.value([1], "INT64"), keepdims=0)
    return g.node("Where", g.to(gaps, "BOOL"), g.value("", "BYTES"), label)


def _told(g: ColumnGraph, value: str, target: Target) -> str:
    nothing = g.node("IsNaN", value)
    for margin, comparison in ((target.low, "Less"), (target.high, "Greater")):
        if np.isfinite(margin):
            value = g.node("Where", g.node(comparison, value, g.value(margin)), g.value(margin), value)
    value = g.node("Add", g.node("Mul", value, g.value(target.factor)), g.value(target.constant))
    if target.cast == "round":
        value = g.node("Floor", g.node("Add", value, g.value(0.5)))
    elif target.cast:
        value = g.node("Ceil" if target.cast == "ceiling" else "Floor", value)
    return value if np.isnan(target.default) else g.node("Where", nothing, g.value(target.default), value)


def _precise(g: ColumnGraph, value: str, model: Model) -> tuple[str, str]:
    """The value and its dtype: no more is promised than there is."""
    return (value, "FP64") if isinstance(model, Regression) else (g.to(value, "FP32"), "FP32")


class _Inputs:
    """The fields as inputs, and what trees test as one matrix of numbers."""

    def __init__(self, g: ColumnGraph, document: Document) -> None:
        self._g = g
        self.texts = {field.name for field in document.fields if field.is_text}
        self.columns: list[str] = []
        self._places: dict[object, int] = {}
        self._fields = FieldGraph(g, document.fields)
        self.named = self._fields.named
        self._document, self._derived = document, DerivedGraph(g, self.named)
        self.texts |= {one.name for one in document.derived if one.kind == "text"}
        self.settle()

    def settle(self) -> None:
        """Adds the derived fields that can be worked out of what there is."""
        for one in self._document.derived:
            if one.name not in self.named and looked_at(one) <= set(self.named):
                self._derived.settle(one)

    def without_answer(self) -> str:
        """[rows, 1]: where a value that the model looks at is invalid; "" where none can be."""
        found = self._fields.without_answer()
        for name in sorted(self._document.direct & set(self._derived.invalid)):
            invalid = self._derived.invalid[name]
            found = self._g.node("Or", found, invalid) if found else invalid
        return found

    def place(self, tests: tuple[Test, ...]) -> tuple[int, str, float]:
        """Where the matrix has what these tests look at, which all must hold, and the comparison that is left to the
        tree."""
        if len(tests) > 1:
            if tests not in self._places:
                self._column(tests, self._all_hold(tests))
            return self._places[tests], "BRANCH_GTE", 0.5
        test = tests[0]
        if test.operator in _MODES and test.operator != "notEqual" and self._is_number(test.field):
            return self._column(test.field, self.named[test.field]), _MODES[test.operator], float(test.value)
        if tests not in self._places:
            self._column(tests, self._truth(test))
        return self._places[tests], "BRANCH_GTE", 0.5

    def unknown(self, tests: tuple[Test, ...]) -> int:
        """Where the matrix has a one where it is not known whether the tests hold."""
        key = ("unknown", tests)
        if key not in self._places:
            self._column(key, self._g.to(self._g.node("IsNaN", self._all_hold(tests)), "FP64"))
        return self._places[key]

    def _is_number(self, field: str) -> bool:
        if field not in self.named:
            raise RefusedError(f"a tree tests field '{field[:60]}', which is none of the model's")
        return field not in self.texts

    def _column(self, key: object, value: str) -> int:
        if key not in self._places:
            self._places[key] = len(self.columns)
            self.columns.append(value)
        return self._places[key]

    def _truth(self, test: Test) -> str:
        """One where the test holds, zero where not, NaN where the value is missing."""
        g = self._g
        if test.parts:
            return self._joined(test)
        if test.operator in ("always", "never"):
            # As many rows as there are.
            first = next(iter(self.named.values()))
            return g.node("Where", g.node("Equal", first, first), *(g.value(float(test.operator == "always")),) * 2)
        self._is_number(test.field)
        value = self.named[test.field]
        missing = g.node("Equal", value, g.value("", "BYTES")) if test.field in self.texts else g.node("IsNaN", value)
        if test.operator in ("isMissing", "isNotMissing"):
            return g.to(missing if test.operator == "isMissing" else g.node("Not", missing), "FP64")
        if test.field not in self.texts and test.operator in _COMPARED:
            compared = g.node(_COMPARED[test.operator], value, g.value(float(test.value)))
            return g.node("Where", missing, g.value(np.nan), g.to(compared, "FP64"))
        values = test.values if test.operator in ("isIn", "isNotIn") else (str(test.value),)
        found = g.value(False, "BOOL")
        for level in values:
            wanted = g.value(level, "BYTES") if test.field in self.texts else g.value(float(level))
            found = g.node("Or", found, g.node("Equal", value, wanted))
        if test.operator in ("notEqual", "isNotIn"):
            found = g.node("Not", found)
        return g.node("Where", missing, g.value(np.nan), g.to(found, "FP64"))

    def _joined(self, test: Test) -> str:
        g = self._g
        parts = [self._truth(part) for part in test.parts]
        if test.operator == "and":
            return self._all_hold(test.parts)
        if test.operator == "surrogate":
            value = parts[-1]
            for part in reversed(parts[:-1]):
                value = g.node("Where", g.node("IsNaN", part), value, part)
            return value
        total = parts[0]
        for part in parts[1:]:
            total = g.node("Add", total, part)
        if test.operator == "xor":
            return g.node(
                "Sub", total, g.node("Mul", g.node("Floor", g.node("Mul", total, g.value(0.5))), g.value(2.0))
            )
        succeeds = g.value(False, "BOOL")
        for part in parts:
            succeeds = g.node("Or", succeeds, g.node("Equal", part, g.value(1.0)))
        return g.node("Where", succeeds, g.value(1.0), total)

    def _all_hold(self, tests: tuple[Test, ...]) -> str:
        """False where one is, whatever is unknown of the others."""
        g = self._g
        truths = [self._truth(test) for test in tests]
        product, fails = truths[0], g.value(False, "BOOL")
        for truth in truths:
            fails = g.node("Or", fails, g.node("Equal", truth, g.value(0.0)))
        for truth in truths[1:]:
            product = g.node("Mul", product, truth)
        return g.node("Where", fails, g.value(0.0), product)

    def matrix(self) -> str:
        return self._g.node("Concat", *self.columns, axis=1)


def _values(g: ColumnGraph, inputs: _Inputs, model: Model, classes: tuple[str, ...]) -> str:
    """[rows, classes], or [rows, 1] of a number."""
    if isinstance(model, Regression):
        return _regression(g, inputs, model, classes)
    if isinstance(model, Chain):
        for step in model.steps:
            value = _values(g, inputs, step.model, step.classes)
            if step.label:
                value = g.node("Gather", value, g.value([step.classes.index(step.label)], "INT64"), axis=1)
            inputs.named[step.name] = value if step.label else _told(g, value, step.target)
            inputs.settle()
        return _values(g, inputs, model.last, classes)
    if not isinstance(model, Ensemble):
        return _trees(g, inputs, (model,), (1.0,), classes, votes=False)
    votes = "Vote" in model.method
    weights = model.weights if "eighted" in model.method else (1.0,) * len(model.members)
    if all(isinstance(member, Tree) for member in model.members):
        total = _trees(g, inputs, model.members, weights, classes, votes=votes)
    else:
        total = _mixed(g, inputs, model, weights, classes)
    if votes:
        return g.node("Div", total, g.node("ReduceSum", total, g.value([1], "INT64"), keepdims=1))
    return total if "um" in model.method else g.node("Mul", total, g.value(1.0 / sum(weights)))


def _mixed(
    g: ColumnGraph, inputs: _Inputs, model: Ensemble, weights: tuple[float, ...], classes: tuple[str, ...]
) -> str:
    if "Vote" in model.method:
        raise RefusedError("a vote of other models than trees is not converted")
    total = ""
    for member, weight in zip(model.members, weights, strict=True):
        part = g.node("Mul", _values(g, inputs, member, classes), g.value(weight))
        total = g.node("Add", total, part) if total else part
    return total


def _trees(
    g: ColumnGraph, inputs: _Inputs, trees: tuple[Model, ...], weights: tuple[float, ...], classes: tuple[str, ...], *,
    votes: bool,
) -> str:  # fmt: skip
    """The weighted sum of what the trees' leaves hold, or of what they say."""
    ensemble = _TreeEnsemble(inputs, classes, votes=votes)
    for tree, weight in zip(trees, weights, strict=True):
        assert isinstance(tree, Tree)
        ensemble.add(tree, weight)
    return ensemble.node(g)


class _TreeEnsemble:
    """The attributes of a TreeEnsembleRegressor, filled tree by tree."""

    def __init__(self, inputs: _Inputs, classes: tuple[str, ...], *, votes: bool) -> None:
        self._inputs, self._classes, self._votes = inputs, classes, votes
        self._rows: list[tuple[int, int, int, str, float, int, int, int]] = []
        self._targets: list[tuple[int, int, int, float]] = []
        self._tree = -1
        self._next = 0

    def add(self, tree: Tree, weight: float) -> None:
        self._tree, self._next = self._tree + 1, 0
        self._node(tree, tree.root, weight)

    def _node(self, tree: Tree, node: Node, weight: float) -> int:
        """Its place. A node's children are asked in order, each test of each in turn: a chain of branches."""
        if not node.children:
            return self._leaf(node, weight)
        fields = {(test.field or test) for child in node.children for test in child.tests}
        if node.unknown == "default" and len(fields) > 1:
            raise RefusedError("a node with a default child whose children test several fields is not converted")
        after: int | None = None
        for index in reversed(range(len(node.children))):
            child = node.children[index]
            if any(test.operator == "never" for test in child.tests):
                continue
            inner = self._node(tree, child, weight)
            if not child.tests:
                after = inner
                continue
            if after is None:
                after = self._leaf(node if tree.last_prediction and node.score else None, weight)
            column, mode, value = self._inputs.place(child.tests)
            missing = int(node.unknown == "default" and index == node.default)
            branch = self._add(column, mode, value, inner, after, missing)
            after = self._where_known(node, child, branch, weight)
        return self._leaf(None, weight) if after is None else after

    def _where_known(self, node: Node, child: Node, known: int, weight: float) -> int:
        """Before the child's test: where its value is missing, nothing more is asked."""
        if node.unknown not in ("null", "last"):
            return known
        leaf = self._leaf(node if node.unknown == "last" and node.score else None, weight)
        return self._add(self._inputs.unknown(child.tests), "BRANCH_GTE", 0.5, leaf, known, 0)

    def _add(self, column: int, mode: str, value: float, true: int, false: int, missing: int) -> int:
        place, self._next = self._next, self._next + 1
        if len(self._rows) > MAX_NODES:
            raise RefusedError(f"the trees have more than {MAX_NODES} nodes, more than can be converted")
        self._rows.append((self._tree, place, column, mode, value, true, false, missing))
        return place

    def _leaf(self, node: Node | None, weight: float) -> int:
        place = self._add(0, "LEAF", 0.0, 0, 0, 0)
        if self._classes:
            shares = (votes_of if self._votes else shares_of)(node, self._classes)
            self._targets += [(self._tree, place, i, float(share) * weight) for i, share in enumerate(shares) if share]
        else:
            score = float(node.score) if node is not None else np.nan
            self._targets.append((self._tree, place, 0, score * weight))
        return place

    def node(self, g: ColumnGraph) -> str:
        # Branches come before what they lead to: the first node of a tree is its root.
        rows = sorted(self._rows, key=lambda row: (row[0], -row[1]))
        trees, places, columns, modes, values, true, false, missing = (list(part) for part in zip(*rows, strict=True))
        if not self._inputs.columns:
            raise RefusedError("the trees test nothing: the model is a constant")
        target_trees, target_places, targets, weights = (list(part) for part in zip(*self._targets, strict=True))
        attributes: dict[str, Any] = {
            "n_targets": max(1, len(self._classes)),
            "nodes_treeids": trees,
            "nodes_nodeids": places,
            "nodes_featureids": columns,
            "nodes_modes": modes,
            "nodes_values_as_tensor": _double(values, "values"),
            "nodes_truenodeids": true,
            "nodes_falsenodeids": false,
            "nodes_missing_value_tracks_true": missing,
            "target_treeids": target_trees,
            "target_nodeids": target_places,
            "target_ids": targets,
            "target_weights_as_tensor": _double(weights, "weights"),
        }
        # In double but for its last sum, which onnxruntime gives in single.
        single = g.node("TreeEnsembleRegressor", self._inputs.matrix(), domain="ai.onnx.ml", **attributes)
        return g.to(single, "FP64")


def _double(values: list[float], name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float64), name)


def _regression(g: ColumnGraph, inputs: _Inputs, model: Regression, classes: tuple[str, ...]) -> str:
    values = {equation.target: _equation(g, inputs, equation) for equation in model.equations}
    if not classes:
        value = _equation(g, inputs, model.equations[0])
        if model.normalization in ("softmax", "logit"):
            return g.node("Sigmoid", value)
        return g.node("Exp", value) if model.normalization == "exp" else _linked(g, model.normalization, value)
    nothing = g.node("Mul", next(iter(values.values())), g.value(0.0))
    ordered = [values.get(name, nothing) for name in classes]
    y = g.node("Concat", *ordered, axis=1)
    one = g.value(1.0)
    if model.normalization == "softmax":
        return g.node("Softmax", y, axis=1)
    if model.normalization == "logit" and len(classes) == 2:
        first = classes.index(model.equations[0].target)
        likely = g.node("Sigmoid", ordered[first])
        both = [likely, g.node("Sub", one, likely)]
        return g.node("Concat", *(both if first == 0 else both[::-1]), axis=1)
    axis = g.value([1], "INT64")
    if model.normalization == "logit":
        y = g.node("Sigmoid", y)
    if model.normalization in ("logit", "simplemax"):
        return g.node("Div", y, g.node("ReduceSum", y, axis, keepdims=1))
    if len(classes) == 2:
        first = classes.index(model.equations[0].target)
        likely = _linked(g, model.normalization, ordered[first])
        for margin, comparison in ((0.0, "Less"), (1.0, "Greater")):
            likely = g.node("Where", g.node(comparison, likely, g.value(margin)), g.value(margin), likely)
        both = [likely, g.node("Sub", one, likely)]
        return g.node("Concat", *(both if first == 0 else both[::-1]), axis=1)
    last = classes.index(model.equations[-1].target)
    others = [value for index, value in enumerate(ordered) if index != last]
    rest = g.node("Sub", one, g.node("Sum", *others))
    return g.node("Concat", *(rest if index == last else value for index, value in enumerate(ordered)), axis=1)


def _linked(g: ColumnGraph, link: str, value: str) -> str:
    one = g.value(1.0)
    if link == "cloglog":
        return g.node("Sub", one, g.node("Exp", g.node("Neg", g.node("Exp", value))))
    return g.node("Exp", g.node("Neg", g.node("Exp", g.node("Neg", value)))) if link == "loglog" else value


def _equation(g: ColumnGraph, inputs: _Inputs, equation: Equation) -> str:
    # As many rows as there are, also where the equation has nothing but its intercept.
    first = next(iter(inputs.named.values()))
    nothing = g.node("Mul", g.to(g.node("Equal", first, first), "FP64"), g.value(0.0))
    total = g.node("Add", nothing, g.value(equation.intercept))
    for name, exponent, coefficient in equation.numbers:
        total = g.node("Add", total, g.node("Mul", _factor(g, inputs, name, exponent), g.value(coefficient)))
    for name, level, coefficient in equation.categories:
        total = g.node("Add", total, g.node("Mul", _factor(g, inputs, name, 1, level), g.value(coefficient)))
    for factors, coefficient in equation.products:
        product = g.value(coefficient)
        for factor in factors:
            product = g.node("Mul", product, _factor(g, inputs, *factor))
        total = g.node("Add", total, product)
    for name in equation.needed:
        missing = g.node("Equal", inputs.named[name], g.value("", "BYTES"))
        total = g.node("Where", missing, g.value(np.nan), total)
    return total


def _factor(g: ColumnGraph, inputs: _Inputs, name: str, exponent: float, level: str | float | None = None) -> str:
    """A number's power; of a level whether the field is that."""
    if name not in inputs.named or (name in inputs.texts) != isinstance(level, str):
        taken = "compared as a category, and is none of the categorical ones"
        if level is None:
            taken = "taken for a number, and is none of the model's numbers"
        raise RefusedError(f"field '{name[:60]}' is {taken}")
    value = inputs.named[name]
    if level is not None:
        return g.to(g.node("Equal", value, g.value(level, "BYTES" if isinstance(level, str) else "FP64")), "FP64")
    return value if exponent == 1 else g.node("Pow", value, g.value(float(exponent)))


def _clusters(g: ColumnGraph, inputs: _Inputs, model: Clusters, without_answer: str) -> None:
    if not set(model.fields) <= set(inputs.named) - inputs.texts:
        raise RefusedError("the clusters' fields are not all numbers of the model's")
    x = g.node("Concat", *(inputs.named[name] for name in model.fields), axis=1)
    known = g.to(g.node("Not", g.node("IsNaN", x)), "FP64")
    x = g.node("Where", g.node("IsNaN", x), g.value(0.0), x)
    apart = g.node("Sub", g.node("Unsqueeze", x, g.value([1], "INT64")), g.value(np.array(model.centers)[None]))
    apart = g.node("Abs", apart) if model.kind == "cityBlock" else g.node("Mul", apart, apart)
    weighted = g.node(
        "Mul", g.node("Mul", apart, g.value(model.weights)), g.node("Unsqueeze", known, g.value([1], "INT64"))
    )
    distance = g.node("ReduceSum", weighted, g.value([2], "INT64"), keepdims=0)
    count = g.node("ReduceSum", known, g.value([1], "INT64"), keepdims=1)
    distance = g.node("Mul", distance, g.node("Div", g.value(float(len(model.fields))), count))
    distance = _answered(g, distance, without_answer)
    if model.kind == "euclidean":
        distance = g.node("Sqrt", distance)
    nearest = g.node("Gather", g.value(model.names, "BYTES"), g.node("ArgMin", distance, axis=1, keepdims=0))
    g.give("label", _where_any(g, distance, nearest), "BYTES")
    g.give("distances", distance, "FP64", len(model.names))
