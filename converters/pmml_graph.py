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
from converters.pmml_file import Clusters, Document, Ensemble, Equation, Model, Node, Regression, Test, Tree, shares_of

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
    if isinstance(document.model, Clusters):
        _clusters(g, inputs, document.model)
    elif document.classes:
        shares = _values(g, inputs, document.model, document.classes)
        best = g.node("ArgMax", shares, axis=1, keepdims=0)
        g.give("label", g.node("Gather", g.value(document.classes, "BYTES"), best), "BYTES")
        g.give("probabilities", *_precise(g, shares, document.model), len(document.classes))
    else:
        value = _values(g, inputs, document.model, ())
        value = g.node("Add", g.node("Mul", value, g.value(document.factor)), g.value(document.constant))
        g.give("value", *_precise(g, g.shaped(value, [-1]), document.model))
    g.save(target)


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
        self.named: dict[str, str] = {}
        for field in document.fields:
            value = g.column(field.name, "BYTES" if field.is_text else "FP64", 1)
            if field.replacement is not None:
                missing = g.node("Equal", value, g.value("", "BYTES")) if field.is_text else g.node("IsNaN", value)
                other = g.value(field.replacement, "BYTES") if field.is_text else g.value(float(field.replacement))
                value = g.node("Where", missing, other, value)
            if field.is_single:
                value = g.to(g.to(value, "FP32"), "FP64")
            self.named[field.name] = value

    def place(self, tests: tuple[Test, ...]) -> tuple[int, str, float]:
        """Where the matrix has what these tests look at, which all must hold, and the comparison that is left to the
        tree."""
        if len(tests) > 1:
            if tests not in self._places:
                self._column(tests, self._all_hold(tests))
            return self._places[tests], "BRANCH_GTE", 0.5
        test = tests[0]
        if test.field not in self.named:
            raise RefusedError(f"a tree tests field '{test.field[:60]}', which is none of the model's")
        if test.field not in self.texts and test.operator in _MODES:
            return self._column(test.field, self.named[test.field]), _MODES[test.operator], float(test.value)
        key = (test.operator, test.field, test.value, test.values)
        if key not in self._places:
            self._places[key] = self._column(key, self._truth(test))
        return self._places[key], "BRANCH_GTE", 0.5

    def _column(self, key: object, value: str) -> int:
        if key not in self._places:
            self._places[key] = len(self.columns)
            self.columns.append(value)
        return self._places[key]

    def _truth(self, test: Test) -> str:
        """One where the test holds, zero where not, NaN where the value is missing."""
        g = self._g
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
    trees: tuple[Model, ...] = (model,)
    method, weights = "sum", tuple[float, ...]((1.0,))
    if isinstance(model, Ensemble):
        if not all(isinstance(member, Tree) for member in model.members):
            return _mixed(g, inputs, model, classes)
        trees, method, weights = model.members, model.method, model.weights
    if "eighted" not in method:
        weights = (1.0,) * len(trees)
    scale = 1.0 if method in ("sum", "weightedSum") and not classes else 1.0 / sum(weights)
    ensemble = _TreeEnsemble(inputs, classes, votes="ajorityVote" in method)
    for tree, weight in zip(trees, weights, strict=True):
        assert isinstance(tree, Tree)
        ensemble.add(tree, weight)
    return g.node("Mul", ensemble.node(g), g.value(scale))


def _mixed(g: ColumnGraph, inputs: _Inputs, model: Ensemble, classes: tuple[str, ...]) -> str:
    if "Vote" in model.method:
        raise RefusedError("a vote of other models than trees is not converted")
    weights = model.weights if "eighted" in model.method else (1.0,) * len(model.members)
    scale = 1.0 if model.method in ("sum", "weightedSum") and not classes else 1.0 / sum(weights)
    total = ""
    for member, weight in zip(model.members, weights, strict=True):
        part = g.node("Mul", _values(g, inputs, member, classes), g.value(weight * scale))
        total = g.node("Add", total, part) if total else part
    return total


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
        fields = {test.field for child in node.children for test in child.tests}
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
        if len({test.field for test in child.tests}) > 1:
            raise RefusedError("a node that joins tests of fields, with a rule for missing values, is not converted")
        leaf = self._leaf(node if node.unknown == "last" and node.score else None, weight)
        column, mode, value = self._inputs.place((Test("isMissing", child.tests[0].field),))
        return self._add(column, mode, value, leaf, known, 0)

    def _add(self, column: int, mode: str, value: float, true: int, false: int, missing: int) -> int:
        place, self._next = self._next, self._next + 1
        if len(self._rows) > MAX_NODES:
            raise RefusedError(f"the trees have more than {MAX_NODES} nodes, more than can be converted")
        self._rows.append((self._tree, place, column, mode, value, true, false, missing))
        return place

    def _leaf(self, node: Node | None, weight: float) -> int:
        place = self._add(0, "LEAF", 0.0, 0, 0, 0)
        if self._classes:
            shares = np.array(shares_of(node, self._classes))
            if self._votes:
                shares = np.eye(len(shares))[int(shares.argmax())]
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
        return g.node("Exp", value) if model.normalization == "exp" else value
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
    if model.normalization == "logit":
        return g.node("Sigmoid", y)
    axis = g.value([1], "INT64")
    if model.normalization == "simplemax":
        return g.node("Div", y, g.node("ReduceSum", y, axis, keepdims=1))
    last = classes.index(model.equations[-1].target)
    others = [value for index, value in enumerate(ordered) if index != last]
    rest = g.node("Sub", one, g.node("Sum", *others))
    return g.node("Concat", *(rest if index == last else value for index, value in enumerate(ordered)), axis=1)


def _equation(g: ColumnGraph, inputs: _Inputs, equation: Equation) -> str:
    # As many rows as there are, also where the equation has nothing but its intercept.
    first = next(iter(inputs.named.values()))
    nothing = g.node("Mul", g.to(g.node("Equal", first, first), "FP64"), g.value(0.0))
    total = g.node("Add", nothing, g.value(equation.intercept))
    for name, exponent, coefficient in equation.numbers:
        value = inputs.named[name]
        powered = value if exponent == 1 else g.node("Pow", value, g.value(float(exponent)))
        total = g.node("Add", total, g.node("Mul", powered, g.value(coefficient)))
    for name, level, coefficient in equation.categories:
        found = g.to(g.node("Equal", inputs.named[name], g.value(level, "BYTES")), "FP64")
        total = g.node("Add", total, g.node("Mul", found, g.value(coefficient)))
    for name in equation.needed:
        missing = g.node("Equal", inputs.named[name], g.value("", "BYTES"))
        total = g.node("Where", missing, g.value(np.nan), total)
    return total


def _clusters(g: ColumnGraph, inputs: _Inputs, model: Clusters) -> None:
    x = g.node("Concat", *(inputs.named[name] for name in model.fields), axis=1)
    apart = g.node("Sub", g.node("Unsqueeze", x, g.value([1], "INT64")), g.value(np.array(model.centers)[None]))
    apart = g.node("Abs", apart) if model.kind == "cityBlock" else g.node("Mul", apart, apart)
    weighted = g.node("Mul", apart, g.value(model.weights))
    distance = g.node("ReduceSum", weighted, g.value([2], "INT64"), keepdims=0)
    if model.kind == "euclidean":
        distance = g.node("Sqrt", distance)
    nearest = g.node("ArgMin", distance, axis=1, keepdims=0)
    g.give("label", g.node("Gather", g.value(model.names, "BYTES"), nearest), "BYTES")
    g.give("distances", distance, "FP64", len(model.names))
