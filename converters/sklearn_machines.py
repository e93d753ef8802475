"""scikit-learn's support vector machines as ONNX in double precision: onnxruntime's own reckon in single precision.

In the process of a conversion alone. Probabilities of pairs (`probability=True`) are left to skl2onnx.
"""

import itertools
from typing import Any

import numpy as np

from converters.sklearn_boosters import Outputs, by_sign, chosen
from converters.sklearn_distances import dense, kernel, number
from converters.sklearn_table import Table

KERNELS = ("linear", "rbf", "poly", "sigmoid")


def is_machine(model: Any) -> bool:
    name = type(model).__name__
    known = name in ("SVC", "NuSVC", "SVR", "NuSVR", "OneClassSVM") and type(model).__module__.startswith("sklearn.")
    return known and hasattr(model, "support_vectors_") and model.kernel in KERNELS


def is_written_whole(model: Any) -> bool:
    return is_machine(model) and not hasattr(model, "predict_proba")


def written(model: Any, table: Table) -> Outputs:
    """Of a model that is_written_whole()."""
    if type(model).__name__ in ("SVR", "NuSVR"):
        return {"variable": _sums(model, table, dense(model.dual_coef_).T)}
    if type(model).__name__ == "OneClassSVM":
        value = _sums(model, table, dense(model.dual_coef_).T)
        return {"label": by_sign(table, np.array([-1, 1]), value, "Greater"), "scores": value}
    graph, count = table.graph, len(model.classes_)
    if count == 2:
        value = decision(model, table)
        label = by_sign(table, model.classes_, value, "GreaterOrEqual")
        return {"label": label, "probabilities": graph.node("Concat", graph.node("Neg", value), value, axis=1)}
    pairs = _of_pairs(model, table)
    scores = _of_classes(table, pairs, count)
    by = scores if model.break_ties else _votes(table, pairs, count)
    shown = scores if model.decision_function_shape == "ovr" else pairs
    return {"label": chosen(table, model.classes_, by), "probabilities": shown}


def decision(model: Any, table: Table) -> str:
    """[rows, 1] of two classes, else [rows, classes], or [rows, pairs] where the model gives these."""
    if len(model.classes_) == 2:
        return _sums(model, table, dense(model.dual_coef_).T)
    pairs = _of_pairs(model, table)
    return _of_classes(table, pairs, len(model.classes_)) if model.decision_function_shape == "ovr" else pairs


def _sums(model: Any, table: Table, coefficients: Any) -> str:
    settings = {"gamma": model._gamma, "degree": model.degree, "coef0": model.coef0}
    near = kernel(table.graph, table.matrix(), dense(model.support_vectors_), model.kernel, settings)
    summed = table.graph.node("MatMul", near, number(table.graph, np.ascontiguousarray(coefficients)))
    return table.graph.node("Add", summed, number(table.graph, model.intercept_.reshape(1, -1)))


def _of_pairs(model: Any, table: Table) -> str:
    """[rows, pairs]: above zero for the first of each two classes. A vector's coefficients stand by the other classes,
    its own left out."""
    ends = np.cumsum(model.n_support_)
    of = [slice(end - size, end) for end, size in zip(ends, model.n_support_, strict=True)]
    columns, coefficients = [], dense(model.dual_coef_)
    for first, second in itertools.combinations(range(len(of)), 2):
        column = np.zeros(ends[-1])
        column[of[first]] = coefficients[second - 1, of[first]]
        column[of[second]] = coefficients[first, of[second]]
        columns.append(column)
    return _sums(model, table, np.stack(columns, axis=1))


def _votes(table: Table, pairs: str, count: int) -> str:
    graph = table.graph
    wins = graph.cast(graph.node("Greater", pairs, number(graph, 0.0)), np.float64)
    losses = graph.node("Sub", number(graph, 1.0), wins)
    first, second = (number(graph, side) for side in _sides(count))
    return graph.node("Add", graph.node("MatMul", wins, first), graph.node("MatMul", losses, second))


def _of_classes(table: Table, pairs: str, count: int) -> str:
    """The votes, and within a vote by how sure they are: sklearn.utils.multiclass, _ovr_decision_function()."""
    graph = table.graph
    first, second = _sides(count)
    sure = graph.node("MatMul", pairs, number(graph, first - second))
    least = graph.node("Mul", graph.node("Add", graph.node("Abs", sure), number(graph, 1.0)), number(graph, 3.0))
    against = graph.cast(graph.node("Less", pairs, number(graph, 0.0)), np.float64)
    wins = graph.node("Sub", number(graph, 1.0), against)
    votes = graph.node("Add", graph.node("MatMul", wins, number(graph, first)),
                       graph.node("MatMul", against, number(graph, second)))  # fmt: skip
    return graph.node("Add", votes, graph.node("Div", sure, least))


def _sides(count: int) -> tuple[Any, Any]:
    """[pairs, classes]: which class is the first of a pair, and which the second."""
    pairs = list(itertools.combinations(range(count), 2))
    return np.eye(count)[[one for one, _ in pairs]], np.eye(count)[[other for _, other in pairs]]
