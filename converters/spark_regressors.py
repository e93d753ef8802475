"""Spark's regressions as ONNX, in double. What each does with a vector: its class of org.apache.spark.ml.regression, of
the same name.

In the process of a conversion alone. A model is Spark's own object, loaded; the `rows` of trees are what lies in its
folder.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.spark_columns import is_set
from converters.spark_graph import SparkGraph, mixed
from converters.spark_trees import Forest, trees_of
from converters.spark_vectors import array_of, factors, features_of, linear, put

_GLM_EPSILON = 1e-16  # GeneralizedLinearRegression.epsilon


def _fm_regressor(graph: SparkGraph, stage: Any) -> None:
    put(graph, stage, "predictionCol", factors(graph, stage))


def _tree_regressor(graph: SparkGraph, stage: Any, rows: Sequence[Any]) -> None:
    trees = trees_of(rows)
    boosted = type(stage).__name__ == "GBTRegressionModel"
    weights = list(stage.treeWeights) if boosted else [1.0] * len(trees)
    value = Forest(graph, features_of(graph, stage), trees).weighted(weights)
    if not boosted and len(trees) > 1:
        value = graph.g.node("Div", value, graph.g.value(float(len(trees))))
    put(graph, stage, "predictionCol", value)


def _linear_regression(graph: SparkGraph, stage: Any) -> None:
    put(
        graph,
        stage,
        "predictionCol",
        linear(graph, stage, array_of(stage.coefficients)[None], np.array([stage.intercept])),
    )


def _survival(graph: SparkGraph, stage: Any) -> None:
    g, eta = graph.g, linear(graph, stage, array_of(stage.coefficients)[None], np.array([stage.intercept]))
    mean = g.node("Exp", eta)
    put(graph, stage, "predictionCol", mean)
    if is_set(stage, "quantilesCol") and stage.getQuantilesCol():
        shares = np.array(stage.getQuantileProbabilities(), np.float64)
        quantiles = g.node("Mul", mean, g.value(np.exp(np.log(-np.log1p(-shares)) * stage.scale)[None]))
        put(graph, stage, "quantilesCol", quantiles, len(shares))


def _generalised(graph: SparkGraph, stage: Any) -> None:
    g, family = graph.g, str(stage.getFamily()).lower()
    eta = linear(graph, stage, array_of(stage.coefficients)[None], np.array([stage.intercept]))
    if is_set(stage, "offsetCol") and stage.getOffsetCol():
        eta = g.node("Add", eta, graph.values[str(stage.getOffsetCol())].name)
    if is_set(stage, "linkPredictionCol") and stage.getLinkPredictionCol():
        graph.values[str(stage.getLinkPredictionCol())] = mixed(eta, is_vector=False, width=1)
    mean = _unlinked(graph, stage, family, eta)
    low, high = g.value(_GLM_EPSILON), g.value(float(np.finfo(np.float64).max))
    power = float(stage.getVariancePower()) if family == "tweedie" else 0.0
    if family == "binomial":
        mean = g.node("Min", g.node("Max", mean, low), g.value(1.0 - _GLM_EPSILON))
    elif family in ("poisson", "gamma") or power >= 1:
        mean = g.node("Min", g.node("Max", mean, low), high)
    put(graph, stage, "predictionCol", mean)


def _unlinked(graph: SparkGraph, stage: Any, family: str, eta: str) -> str:
    g = graph.g
    if family == "tweedie":
        power = float(stage.getVariancePower())
        link_power = float(stage.getLinkPower()) if is_set(stage, "linkPower") else 1 - power
        link = {0.0: "log", 1.0: "identity", -1.0: "inverse", 0.5: "sqrt"}.get(link_power, "power")
    else:
        canonical = {"gaussian": "identity", "binomial": "logit", "poisson": "log", "gamma": "inverse"}[family]
        link, link_power = str(stage.getLink()).lower() if is_set(stage, "link") else canonical, 0.0
    if link == "identity":
        return eta
    if link in ("log", "inverse", "logit"):
        return g.node({"log": "Exp", "inverse": "Reciprocal", "logit": "Sigmoid"}[link], eta)
    if link == "sqrt":
        return g.node("Mul", eta, eta)
    if link == "cloglog":
        return g.node("Sub", g.value(1.0), g.node("Exp", g.node("Neg", g.node("Exp", eta))))
    if link == "power":
        return g.node("Pow", eta, g.value(1 / link_power))
    raise RefusedError(f"the link {link} has no exact operator: onnxruntime's is of single precision; train with logit")


def _isotonic(graph: SparkGraph, stage: Any) -> None:
    """Between two boundaries along a line, beyond them as at the nearest."""
    g, value = graph.g, features_of(graph, stage)
    at = int(stage.getFeatureIndex()) if value.is_vector else 0
    x = g.node("Gather", value.name, g.value([at], "INT64"), axis=1)
    bounds, known = array_of(stage.boundaries), array_of(stage.predictions)
    graph.mark(value, at, list(bounds))
    for source in graph.sources(value):
        source.missing = False
    below = g.to(g.node("GreaterOrEqual", x, g.value(bounds[None])), "FP64")
    count = g.to(g.node("ReduceSum", below, g.value([1], "INT64"), keepdims=1), "INT64")
    zero, last = g.value(0, "INT64"), g.value(len(bounds) - 1, "INT64")
    left = g.node("Max", g.node("Sub", count, g.value(1, "INT64")), zero)
    right = g.node("Min", count, last)
    xs, ys = g.value(bounds), g.value(known)
    x0, x1, y0, y1 = (g.node("Gather", numbers, place) for numbers in (xs, ys) for place in (left, right))
    width = g.node("Sub", x1, x0)
    flat = g.node("Equal", width, g.value(0.0))
    slope = g.node("Div", g.node("Sub", y1, y0), g.node("Where", flat, g.value(1.0), width))
    inside = g.node("Add", y0, g.node("Mul", slope, g.node("Sub", x, x0)))
    graph.wrong_where(g.node("IsNaN", x))
    put(graph, stage, "predictionCol", g.node("Where", flat, y0, inside))


REGRESSORS: dict[str, Callable[[SparkGraph, Any], None]] = {
    "LinearRegressionModel": _linear_regression, "GeneralizedLinearRegressionModel": _generalised,
    "AFTSurvivalRegressionModel": _survival, "FMRegressionModel": _fm_regressor, "IsotonicRegressionModel": _isotonic,
}  # fmt: skip
TREE_REGRESSORS: dict[str, Callable[[SparkGraph, Any, Sequence[Any]], None]] = {
    "DecisionTreeRegressionModel": _tree_regressor,
    "RandomForestRegressionModel": _tree_regressor,
    "GBTRegressionModel": _tree_regressor,
}
