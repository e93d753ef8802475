"""What Spark's fitted predictors have in common: the vector that they take, its products, the columns that they make.

In the process of a conversion alone. A model is Spark's own object, loaded.
"""

from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Array
from converters.spark_graph import SparkGraph, Value, mixed


def array_of(vector: Any) -> Array:
    """A vector or matrix of Spark's."""
    return np.asarray(vector.toArray(), np.float64)


def column_of(stage: Any, name: str) -> str:
    """The name of one of its output columns; empty where the owner wants none."""
    return str(stage.getOrDefault(name)) if stage.hasParam(name) else ""


def outputs_of(stage: Any) -> list[str]:
    """The columns that the predictor makes."""
    names = [column_of(stage, name) for name in ("predictionCol", "probabilityCol", "rawPredictionCol")]
    if stage.hasParam("quantilesCol") and stage.isSet("quantilesCol"):
        names.append(column_of(stage, "quantilesCol"))
    return [name for name in names if name]


def features_of(graph: SparkGraph, stage: Any) -> Value:
    """The vector that the model takes."""
    return graph.values[column_of(stage, "featuresCol")]


def linear(graph: SparkGraph, stage: Any, coefficients: Array, intercepts: Array) -> str:
    """[rows, k] of x @ coefficients.T + intercepts."""
    g, value = graph.g, features_of(graph, stage)
    if coefficients.shape[1] != value.width:
        raise RefusedError(f"the model has {coefficients.shape[1]} coefficients for a vector of {value.width}")
    graph.reach(value, np.flatnonzero(coefficients.any(axis=0)))
    if value.bag is None:
        product = g.node("MatMul", value.name, g.value(coefficients.T.copy()))
    else:  # of hundreds of thousands of slots, those alone that the text has
        table = np.concatenate([coefficients.T, np.zeros((1, len(coefficients)))])
        weights = g.node("Unsqueeze", value.bag.weights, g.value([2], "INT64"))
        parts = g.node("Mul", g.node("Gather", g.value(table), value.bag.slots, axis=0), weights)
        product = g.node("ReduceSum", parts, g.value([1], "INT64"), keepdims=0)
    return g.node("Add", product, g.value(intercepts.reshape(1, -1)))


def put(graph: SparkGraph, stage: Any, name: str, value: str, width: int = 0) -> None:
    """Makes the value the column of that parameter, a vector of `width`, or with 0 a number."""
    column = column_of(stage, name)
    if column:
        graph.values[column] = mixed(value, max(1, width), is_vector=bool(width))


def factors(graph: SparkGraph, stage: Any) -> str:
    """A factorisation machine's sum, [rows, 1]."""
    g, value, pairwise = graph.g, features_of(graph, stage), array_of(stage.factors)
    single = linear(graph, stage, array_of(stage.linear)[None], np.array([stage.intercept]))
    sums = g.node("MatMul", value.name, g.value(pairwise))
    squares = g.node("MatMul", g.node("Mul", value.name, value.name), g.value(pairwise**2))
    pairs = g.node("ReduceSum", g.node("Sub", g.node("Mul", sums, sums), squares), g.value([1], "INT64"), keepdims=1)
    return g.node("Add", single, g.node("Mul", pairs, g.value(0.5)))
