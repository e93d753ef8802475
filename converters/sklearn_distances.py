"""How far rows are from rows that a model kept, and kernels of that, written as ONNX in double precision.

In the process of a conversion alone. Squares are expanded (x² - 2xy + y²), as scikit-learn does: what must be exact
near zero is reckoned again from the differences.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.converter import require
from converters.graph import Graph

Rows = NDArray[np.float64]
ALONG = 1  # the axis of columns


def number(graph: Graph, value: Any) -> str:
    return graph.constant(np.asarray(value, np.float64))


def dense(rows: Any) -> Rows:
    """What a model kept, as it keeps it: sparse, where it was given such a matrix."""
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)


def products(graph: Graph, x: str, rows: Rows) -> str:
    """[rows, kept rows]."""
    return graph.node("MatMul", x, number(graph, np.ascontiguousarray(rows.T)))


def summed(graph: Graph, value: str, *, axis: int = ALONG) -> str:
    return graph.node("ReduceSum", value, graph.constant(np.array([axis], np.int64)), keepdims=1)


def squares(graph: Graph, x: str, rows: Rows) -> str:
    """The squared distances, none of them negative."""
    own = summed(graph, graph.node("Mul", x, x))
    mixed = graph.node("Mul", products(graph, x, rows), number(graph, -2.0))
    kept = number(graph, np.sum(rows * rows, axis=1).reshape(1, -1))
    return graph.node("Max", graph.node("Add", graph.node("Add", own, mixed), kept), number(graph, 0.0))


def differences(graph: Graph, x: str, rows: str) -> str:
    """[rows, others, columns] of x less what stands in `rows`, [others, columns] for all or for each row."""
    return graph.node("Sub", graph.node("Unsqueeze", x, graph.constant(np.array([1], np.int64))), rows)


def nearest(graph: Graph, x: str, rows: Rows) -> str:
    """[rows]: the place of the nearest kept row, the first of several."""
    kept = number(graph, np.sum(rows * rows, axis=1).reshape(1, -1))
    mixed = graph.node("Mul", products(graph, x, rows), number(graph, -2.0))
    return graph.node("ArgMin", graph.node("Add", mixed, kept), axis=1, keepdims=0)


def kernel(graph: Graph, x: str, rows: Rows, name: Any, settings: dict[str, Any]) -> str:
    """[rows, kept rows] of scikit-learn's pairwise_kernels(). Raises RefusedError of one that is not known here."""
    require(name in ("linear", "rbf", "poly", "polynomial", "sigmoid", "cosine"),
            f"the kernel {getattr(name, '__name__', name)} is not converted: use 'rbf', 'poly', 'sigmoid', 'cosine' "
            "or 'linear'")  # fmt: skip
    gamma = settings.get("gamma")
    gamma = 1.0 / rows.shape[1] if gamma is None else float(gamma)
    if name == "rbf":
        return graph.node("Exp", graph.node("Mul", squares(graph, x, rows), number(graph, -gamma)))
    if name == "cosine":
        lengths = np.sqrt(np.sum(rows * rows, axis=1, keepdims=True))
        return products(graph, of_length_one(graph, x), rows / np.where(lengths == 0, 1.0, lengths))
    product = products(graph, x, rows)
    if name == "linear":
        return product
    coefficient = settings.get("coef0")
    moved = graph.node("Mul", product, number(graph, gamma))
    moved = graph.node("Add", moved, number(graph, 1.0 if coefficient is None else coefficient))
    if name == "sigmoid":
        return graph.node("Tanh", moved)
    degree = settings.get("degree")
    return graph.node("Pow", moved, number(graph, 3 if degree is None else degree))


def of_length_one(graph: Graph, x: str, norm: str = "l2", least: float = 0.0) -> str:
    """Each row over its norm, rows whose norm is at most `least` as they are."""
    operator = {"l1": "ReduceL1", "l2": "ReduceL2", "max": "ReduceMax"}[norm]
    measured = graph.node("Abs", x) if norm == "max" else x
    length = graph.node(operator, measured, graph.constant(np.array([ALONG], np.int64)), keepdims=1)
    small = graph.node("LessOrEqual", length, number(graph, least))
    return graph.node("Div", x, graph.node("Where", small, number(graph, 1.0), length))
