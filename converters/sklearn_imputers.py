"""scikit-learn's imputers but the iterative one, and what tells that a cell is missing; as ONNX in double precision.

In the process of a conversion alone.
"""

from typing import Any

import numpy as np

from converters.converter import require
from converters.sklearn_distances import number, products
from converters.sklearn_table import Block, Table


def is_missing_word(value: Any) -> bool:
    return value is None or value != value


def is_missing(table: Table, column: Block, missing: Any) -> str:
    """[rows, 1]: whether a cell is what stands for a missing one."""
    graph = table.graph
    if column.is_text:
        word = "" if is_missing_word(missing) else str(missing)
        return graph.node("Equal", column.value, graph.constant(np.array([word], object)))
    if is_missing_word(missing):
        return graph.node("IsNaN", column.value)
    return graph.node("Equal", column.value, number(graph, float(missing)))


def simple(part: Any, table: Table) -> Table:
    made = []
    for column, fill in zip(table.columns(), part.statistics_, strict=True):
        if is_missing_word(fill) and not (part.strategy == "constant" or part.keep_empty_features):
            continue  # a column that had nothing to learn of is dropped
        filler = fill if column.is_text or not is_missing_word(fill) else 0.0
        value = table.graph.constant(np.array([str(fill)], object)) if column.is_text else number(table.graph, filler)
        filled = table.graph.node("Where", is_missing(table, column, part.missing_values), value, column.value)
        made.append(Block(filled, 1, column.is_text))
    flags = indicated(part.indicator_, table).blocks if part.add_indicator else ()
    return table.of(*made, *flags)


def indicated(part: Any, table: Table) -> Table:
    columns = [table.column(int(place)) for place in part.features_]
    flags = [table.graph.cast(is_missing(table, column, part.missing_values), np.float64) for column in columns]
    return table.of(*(Block(flag, 1) for flag in flags))


def by_neighbours(part: Any, table: Table) -> Table:
    """A missing cell is the mean of its column in the nearest rows that were learned and have it.

    As scikit-learn does it: squared distances over the columns that both rows have, in the proportion of all columns; a
    row that has nothing in common with any other gets the column's mean.
    """
    require(part.metric == "nan_euclidean", "KNNImputer measures with a function of its own, which cannot be read")
    require(part.weights in ("uniform", "distance"), "KNNImputer weighs with a function of its own: use 'distance'")
    graph, columns = table.graph, table.columns()
    missing = [is_missing(table, column, part.missing_values) for column in columns]
    gaps = graph.node("Concat", *missing, axis=1)
    far = _distances(part, table, gaps)
    made = []
    for at, column in enumerate(columns):
        if part._valid_mask[at]:
            guess = _from_nearest(part, table, far, at)
            made.append(Block(graph.node("Where", missing[at], guess, column.value), 1))
        elif part.keep_empty_features:
            made.append(Block(graph.node("Where", missing[at], *(number(graph, 0.0),) * 2), 1))
    flags = indicated(part.indicator_, table).blocks if part.add_indicator else ()
    return table.of(*made, *flags)


def _distances(part: Any, table: Table, gaps: str) -> str:
    """[rows, rows that were learned], squared; infinite where they have no column in common."""
    graph = table.graph
    zero = number(graph, 0.0)
    known = graph.cast(graph.node("Not", gaps), np.float64)
    x = graph.node("Where", gaps, zero, table.matrix())
    learned = ~np.asarray(part._mask_fit_X, bool)
    y = np.where(learned, np.asarray(part._fit_X, np.float64), 0.0)
    apart = graph.node("Add", products(graph, graph.node("Mul", x, x), learned), products(graph, known, y * y))
    apart = graph.node("Sub", apart, products(graph, x, 2 * y))
    shared = products(graph, known, learned)
    whole = graph.node(
        "Div", graph.node("Mul", graph.node("Max", apart, zero), number(graph, float(y.shape[1]))), shared
    )
    return graph.node("Where", graph.node("Equal", shared, zero), number(graph, np.inf), whole)


def _from_nearest(part: Any, table: Table, far: str, at: int) -> str:
    """[rows, 1]: what a cell of this column would be."""
    graph, axis = table.graph, table.graph.constant(np.array([1], np.int64))
    zero, one = number(graph, 0.0), number(graph, 1.0)
    donors = np.flatnonzero(~part._mask_fit_X[:, at])
    values = np.asarray(part._fit_X, np.float64)[donors, at]
    near = graph.node("Gather", far, graph.constant(donors.astype(np.int64)), axis=1)
    count = graph.constant(np.array([min(part.n_neighbors, len(donors))], np.int64))
    places = graph.second("TopK", near, count, axis=1, largest=0)
    distances = graph.node("GatherElements", near, places, axis=1)
    counted = graph.node("Less", distances, number(graph, np.inf))
    weights = graph.cast(counted, np.float64)
    if part.weights == "distance":
        same = graph.cast(graph.node("Equal", distances, zero), np.float64)
        any_same = graph.node("Greater", graph.node("ReduceMax", same, axis, keepdims=1), zero)
        root = graph.node("Sqrt", graph.node("Where", graph.node("Equal", distances, zero), one, distances))
        weights = graph.node("Where", any_same, same, graph.node("Mul", weights, graph.node("Div", one, root)))
    told = graph.node("Mul", graph.node("Gather", number(graph, values), places, axis=0), weights)
    total = graph.node("ReduceSum", weights, axis, keepdims=1)
    mean = graph.node("Div", graph.node("ReduceSum", told, axis, keepdims=1), total)
    return graph.node("Where", graph.node("Equal", total, zero), number(graph, float(values.mean())), mean)
