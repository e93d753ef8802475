"""scikit-learn's trees, and what it makes of many: forests, bagging, AdaBoost, gradient boosting, isolation forests.
Their sums are the original's to the last bit, so that labels are, too, where two classes are as likely.

In the process of a conversion alone. The trees say in single precision, as scikit-learn compares, which leaf each row
is in; what the leaf holds is looked up and summed in double precision, one tree after the other, as scikit-learn sums
on one thread. onnxruntime's own sums of trees are of single precision, or in another order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.graph import Graph
from converters.sklearn_boosters import Outputs, by_sign, chosen, of_two
from converters.sklearn_table import Table
from converters.trees import Columns, Ensemble, Node, Split

TREE_NAMES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")

Rows = NDArray[np.float64]


def is_of_trees(model: Any) -> bool:
    """Whether it is a tree, or made of nothing else in a way that is known here."""
    name = type(model).__name__
    if not type(model).__module__.startswith("sklearn.") or not hasattr(model, "predict"):
        return False
    if name in TREE_NAMES:
        return hasattr(model, "tree_")
    trees = getattr(model, "estimators_", ())
    if name not in WRITERS or not len(trees):
        return False
    if name in ("GradientBoostingClassifier", "GradientBoostingRegressor"):
        return model.init is None or isinstance(model.init, str)
    if name == "IsolationForest":
        return bool(model._max_samples > 1)
    if name == "AdaBoostClassifier" and len(model.classes_) < 2:
        return False
    return all(type(one).__name__ in TREE_NAMES for one in trees)


def written(model: Any, table: Table) -> Outputs:
    """Of a model that is_of_trees()."""
    return WRITERS.get(type(model).__name__, _single_tree)(model, table)


def decision(model: Any, table: Table) -> str | None:
    """[rows, 1] of two classes, else [rows, classes]; None of what has no decision function."""
    own = {"AdaBoostClassifier": _ada_decision, "GradientBoostingClassifier": _raw}.get(type(model).__name__)
    return own(model, table) if own is not None else None


class _Numbers:
    """Trees whose leaves have one number each, which onnxruntime sums in double precision for each target."""

    def __init__(self, targets: int, columns: int) -> None:
        self._ensemble, self._columns = Ensemble(targets), columns

    def add(self, tree: Any, numbers: Rows, target: int = 0, features: Any = None) -> None:
        """`numbers`: one of each node. `features`: which of the columns the tree's own are."""
        self._ensemble.add(_nodes(tree, numbers.ravel(), tree.threshold, self._columns, features), target)

    def write(self, table: Table) -> str:
        """[rows, targets]."""
        single = table.graph.cast(table.single(), np.float64)
        return self._ensemble.write(table.graph, single, np.float64)


class _Leaves:
    """Trees whose leaves have rows of numbers, all equally long. The number of a leaf within its tree is what single
    precision holds: it is exact up to 2**24."""

    def __init__(self, trees: int, columns: int) -> None:
        self._ensemble, self._columns = Ensemble(trees), columns
        self._rows: list[Rows] = []
        self._starts: list[int] = []  # of each tree's rows among all
        self._count = 0

    def add(self, tree: Any, rows: Rows, features: Any = None) -> None:
        """`rows`: one of each node. `features`: which of the columns the tree's own are."""
        is_leaf = tree.children_left < 0
        places = np.cumsum(is_leaf) - 1.0
        nodes = _nodes(tree, places, single_below(tree.threshold), self._columns, features)
        self._ensemble.add(nodes, len(self._starts))
        self._starts.append(self._count)
        self._rows.append(np.asarray(rows, np.float64)[is_leaf])
        self._count += len(self._rows[-1])

    def write(self, table: Table) -> str:
        """[rows, numbers]: the sums over the trees, one after the other, where a reduction may pair them."""
        graph = table.graph
        place = graph.cast(self._ensemble.write(graph, table.single(), np.float32), np.int64)
        start = graph.constant(np.array(self._starts, np.int64).reshape(1, -1))
        place = graph.node("Add", place, start) if len(self._starts) > 1 else place
        held = graph.node("Gather", graph.constant(np.concatenate(self._rows)), place, axis=0)
        along = graph.node("CumSum", held, graph.constant(np.array(1, np.int64)))
        return graph.node("Gather", along, graph.constant(np.array(-1, np.int64)), axis=1)


def _nodes(tree: Any, leaves: Rows, thresholds: Rows, count: int, features: Any) -> list[Node]:
    """`leaves`: what each node is where it is one. `count`: of the model's columns."""
    columns, is_leaf = Columns(count, truncates=False), (tree.children_left < 0).tolist()
    asked = np.where(is_leaf, 0, tree.feature)
    asked = (asked if features is None else np.asarray(features)[asked]).tolist()
    left, right, missing = tree.children_left.tolist(), tree.children_right.tolist(), tree.missing_go_to_left.tolist()
    values, splits = leaves.tolist(), thresholds.tolist()
    return [
        values[at]
        if is_leaf[at]
        else Split(columns.own(asked[at]), "<=", splits[at], left[at], right[at], bool(missing[at]))
        for at in range(tree.node_count)
    ]


def single_below(numbers: Any) -> Rows:
    """The largest numbers of single precision that are not above these: what is of single precision itself is at most
    the one where it is at most the other."""
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    below: Rows = np.where(single > numbers, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float64)
    return below


def _over(graph: Graph, value: str, number: float) -> str:
    return graph.node("Div", value, graph.constant(np.array(float(number))))


def _values(model: Any) -> Rows:
    """[nodes, numbers]: of each output the shares of its classes, padded to the same count, or the mean."""
    return np.asarray(model.tree_.value.reshape(model.tree_.node_count, -1))


def _summed(model: Any, table: Table, trees: Sequence[Any], values: Sequence[Rows]) -> str:
    """[rows, numbers] of what the trees' leaves hold."""
    features = getattr(model, "estimators_features_", [None] * len(trees))
    sums = _Numbers(1, model.n_features_in_) if values[0].shape[1] == 1 else _Leaves(len(trees), model.n_features_in_)
    for one, rows, own in zip(trees, values, features, strict=True):
        sums.add(one.tree_, rows, features=own)
    return sums.write(table)


def _single_tree(model: Any, table: Table) -> Outputs:
    return _outputs(model, table, _summed(model, table, [model], [_values(model)]))


def _forest(model: Any, table: Table) -> Outputs:
    trees = model.estimators_
    summed = _summed(model, table, trees, [_values(one) for one in trees])
    return _outputs(model, table, _over(table.graph, summed, len(trees)))


def _bagging(model: Any, table: Table) -> Outputs:
    trees, values = model.estimators_, [_values(one) for one in model.estimators_]
    if hasattr(model, "classes_"):  # a tree may not have seen all of them
        for at, (one, seen) in enumerate(zip(trees, values, strict=True)):
            values[at] = np.zeros((len(seen), model.n_classes_))
            values[at][:, one.classes_] = seen
    return _outputs(model, table, _over(table.graph, _summed(model, table, trees, values), len(trees)))


def _outputs(model: Any, table: Table, value: str) -> Outputs:
    """Of [rows, what _values() has]."""
    graph = table.graph
    if not hasattr(model, "classes_"):
        return {"variable": value}
    if not isinstance(model.classes_, list):
        return {"label": chosen(table, model.classes_, value), "probabilities": value}
    padded, labels, outputs = int(max(model.n_classes_)), [], {}
    for at, classes in enumerate(model.classes_):
        places = graph.constant(np.arange(at * padded, at * padded + len(classes)))
        outputs[f"probabilities_{at}"] = graph.node("Gather", value, places, axis=1)
        label = chosen(table, classes, outputs[f"probabilities_{at}"])
        labels.append(graph.node("Reshape", label, graph.constant(np.array([-1, 1], np.int64))))
    return {"label": graph.node("Concat", *labels, axis=1), **outputs}


def _ada_classifier(model: Any, table: Table) -> Outputs:
    graph, value, count = table.graph, _ada_decision(model, table), len(model.classes_)
    if count > 2:
        label, sides = chosen(table, model.classes_, value), value
    else:
        label = by_sign(table, model.classes_, value, "Greater")
        sides = graph.node("Concat", graph.node("Neg", value), value, axis=1)
    scaled = _over(graph, sides, count - 1 if count > 2 else 2)
    return {"label": label, "probabilities": graph.node("Softmax", scaled, axis=1)}


def _ada_decision(model: Any, table: Table) -> str:
    graph, count = table.graph, len(model.classes_)
    votes = []
    for one, weight in zip(model.estimators_, model.estimator_weights_, strict=False):
        said = one.classes_.take(_values(one).argmax(axis=1))
        votes.append(np.where(said[:, None] == model.classes_[None, :], weight, -1 / (count - 1) * weight))
    value = _over(graph, _summed(model, table, model.estimators_, votes), model.estimator_weights_.sum())
    if count > 2:
        return value
    sides = graph.node("Mul", value, graph.constant(np.array([[-1.0, 1.0]])))
    return graph.node("ReduceSum", sides, graph.constant(np.array([1], np.int64)), keepdims=1)


def _ada_regressor(model: Any, table: Table) -> Outputs:
    """The weighted median of the trees."""
    graph, count = table.graph, len(model.estimators_)
    trees = _Numbers(count, model.n_features_in_)
    for at, one in enumerate(model.estimators_):
        trees.add(one.tree_, _values(one), at)
    values = trees.write(table)
    order = graph.second("TopK", values, graph.constant(np.array([count], np.int64)), axis=1, largest=0, sorted=1)
    weights = graph.node("Gather", graph.constant(model.estimator_weights_[:count]), order, axis=0)
    reached = graph.node("CumSum", weights, graph.constant(np.array(1, np.int64)))
    whole = graph.node("Gather", reached, graph.constant(np.array([count - 1], np.int64)), axis=1)
    half = graph.node("Mul", whole, graph.constant(np.array(0.5)))
    beyond = graph.cast(graph.node("GreaterOrEqual", reached, half), np.int64)
    middle = graph.node("GatherElements", order, graph.node("ArgMax", beyond, axis=1, keepdims=1), axis=1)
    return {"variable": graph.node("GatherElements", values, middle, axis=1)}


def _raw(model: Any, table: Table) -> str:
    """[rows, trees of a stage]: what gradient boosting makes its answer of."""
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0]
    sums = _Numbers(model.n_trees_per_iteration_, model.n_features_in_)
    for stage, trees in enumerate(model.estimators_):
        for at, one in enumerate(trees):
            numbers = model.learning_rate * _values(one)
            sums.add(one.tree_, start[at] + numbers if stage == 0 else numbers, at)
    return sums.write(table)


def _boosting(model: Any, table: Table) -> Outputs:
    graph, raw = table.graph, _raw(model, table)
    if not hasattr(model, "classes_"):
        return {"variable": raw}
    if model.n_trees_per_iteration_ > 1:
        return {"label": chosen(table, model.classes_, raw), "probabilities": graph.node("Softmax", raw, axis=1)}
    label = by_sign(table, model.classes_, raw, "GreaterOrEqual")
    twice = graph.node("Add", raw, raw) if model.loss == "exponential" else raw
    return {"label": label, "probabilities": of_two(graph, twice)}


def _isolation(model: Any, table: Table) -> Outputs:
    """A row is as common as the paths to its leaves are long."""
    from sklearn.ensemble._iforest import _average_path_length

    graph, leaves = table.graph, _Leaves(len(model.estimators_), model.n_features_in_)
    for at, (one, features) in enumerate(zip(model.estimators_, model.estimators_features_, strict=True)):
        lengths = model._decision_path_lengths[at] + model._average_path_length_per_tree[at] - 1.0
        leaves.add(one.tree_, lengths.reshape(-1, 1), features)
    usual = len(model.estimators_) * float(_average_path_length([model._max_samples])[0])
    share = graph.node("Neg", _over(graph, leaves.write(table), usual))
    scores = graph.node("Neg", graph.node("Pow", graph.constant(np.array(2.0)), share))
    value = graph.node("Sub", scores, graph.constant(np.array(float(model.offset_))))
    label = by_sign(table, np.array([-1, 1]), value, "GreaterOrEqual")
    return {"label": label, "scores": value, "score_samples": scores}


WRITERS: dict[str, Callable[[Any, Table], Outputs]] = {
    "RandomForestClassifier": _forest, "RandomForestRegressor": _forest, "ExtraTreesClassifier": _forest,
    "ExtraTreesRegressor": _forest, "BaggingClassifier": _bagging, "BaggingRegressor": _bagging,
    "AdaBoostClassifier": _ada_classifier, "AdaBoostRegressor": _ada_regressor, "IsolationForest": _isolation,
    "GradientBoostingClassifier": _boosting, "GradientBoostingRegressor": _boosting,
}  # fmt: skip
