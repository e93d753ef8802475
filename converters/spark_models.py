"""Spark's fitted predictors as ONNX, in double. What each does with a vector: its class of org.apache.spark.ml
(classification, regression, clustering), of the same name.

In the process of a conversion alone. A model is Spark's own object, loaded; the `rows` of trees are what lies
in its folder.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Array
from converters.spark_features import is_set
from converters.spark_graph import SparkGraph, Value, mixed
from converters.spark_trees import Forest, trees_of

_EPSILON = 2.0**-52  # MLUtils.EPSILON
_GLM_EPSILON = 1e-16  # GeneralizedLinearRegression.epsilon


def _array(vector: Any) -> Array:
    return np.asarray(vector.toArray(), np.float64)


def _column(stage: Any, name: str) -> str:
    """The name of one of its output columns; empty where the owner wants none."""
    return str(stage.getOrDefault(name)) if stage.hasParam(name) else ""


def outputs_of(stage: Any) -> list[str]:
    """The columns that the predictor makes."""
    names = [_column(stage, name) for name in ("predictionCol", "probabilityCol", "rawPredictionCol")]
    return [name for name in names if name]


def _features(graph: SparkGraph, stage: Any) -> Value:
    return graph.values[_column(stage, "featuresCol")]


def _linear(graph: SparkGraph, stage: Any, coefficients: Array, intercepts: Array) -> str:
    """[rows, k] of x @ coefficients.T + intercepts."""
    g, value = graph.g, _features(graph, stage)
    if coefficients.shape[1] != value.width:
        raise RefusedError(f"the model has {coefficients.shape[1]} coefficients for a vector of {value.width}")
    product = g.node("MatMul", value.name, g.value(coefficients.T.copy()))
    return g.node("Add", product, g.value(intercepts.reshape(1, -1)))


def _put(graph: SparkGraph, stage: Any, name: str, value: str, width: int = 0) -> None:
    column = _column(stage, name)
    if column:
        graph.values[column] = mixed(value, max(1, width), is_vector=bool(width))


def _both(graph: SparkGraph, margin: str) -> str:
    return graph.g.node("Concat", graph.g.node("Neg", margin), margin, axis=1)


def _sigmoids(graph: SparkGraph, margin: str) -> str:
    likely = graph.g.node("Sigmoid", margin)
    return graph.g.node("Concat", graph.g.node("Sub", graph.g.value(1.0), likely), likely, axis=1)


def _softmax(graph: SparkGraph, raw: str) -> str:
    return graph.g.node("Softmax", raw, axis=1)


def _classified(graph: SparkGraph, stage: Any, raw: str, shares: str, classes: int) -> None:
    """Raw predictions, shares, and what follows from them: the largest, or the largest over its threshold."""
    g = graph.g
    thresholds = stage.getThresholds() if is_set(stage, "thresholds") else None
    ranked = raw
    if thresholds:
        limits = np.array(thresholds, np.float64)
        ranked = g.node("Div", shares, g.value(np.where(limits == 0, 1.0, limits)[None]))
        if (limits == 0).any():
            ranked = g.node("Where", g.value((limits == 0)[None], "BOOL"), g.value(np.inf), ranked)
    best = g.to(g.node("ArgMax", ranked, axis=1, keepdims=1), "FP64")
    _put(graph, stage, "rawPredictionCol", raw, classes)
    _put(graph, stage, "probabilityCol", shares, classes)
    _put(graph, stage, "predictionCol", best)


def _logistic(graph: SparkGraph, stage: Any) -> None:
    g, coefficients = graph.g, _array(stage.coefficientMatrix)
    raw = _linear(graph, stage, coefficients, _array(stage.interceptVector))
    if len(coefficients) > 1:
        _classified(graph, stage, raw, _softmax(graph, raw), len(coefficients))
        return
    limit = float(stage.getThreshold())
    with np.errstate(divide="ignore"):
        above = g.node("Greater", raw, g.value(float(np.log(limit / (1 - limit)) if limit < 1 else np.inf)))
    _put(graph, stage, "rawPredictionCol", _both(graph, raw), 2)
    _put(graph, stage, "probabilityCol", _sigmoids(graph, raw), 2)
    _put(graph, stage, "predictionCol", g.to(above, "FP64"))


def _linear_svc(graph: SparkGraph, stage: Any) -> None:
    g = graph.g
    margin = _linear(graph, stage, _array(stage.coefficients)[None], np.array([stage.intercept]))
    _put(graph, stage, "rawPredictionCol", _both(graph, margin), 2)
    _put(graph, stage, "predictionCol", g.to(g.node("Greater", margin, g.value(float(stage.getThreshold()))), "FP64"))


def _factors(graph: SparkGraph, stage: Any) -> str:
    """A factorisation machine's sum, [rows, 1]."""
    g, value, factors = graph.g, _features(graph, stage), _array(stage.factors)
    linear = _linear(graph, stage, _array(stage.linear)[None], np.array([stage.intercept]))
    sums = g.node("MatMul", value.name, g.value(factors))
    squares = g.node("MatMul", g.node("Mul", value.name, value.name), g.value(factors**2))
    pairs = g.node("ReduceSum", g.node("Sub", g.node("Mul", sums, sums), squares), g.value([1], "INT64"), keepdims=1)
    return g.node("Add", linear, g.node("Mul", pairs, g.value(0.5)))


def _fm_classifier(graph: SparkGraph, stage: Any) -> None:
    margin = _factors(graph, stage)
    _classified(graph, stage, _both(graph, margin), _sigmoids(graph, margin), 2)


def _fm_regressor(graph: SparkGraph, stage: Any) -> None:
    _put(graph, stage, "predictionCol", _factors(graph, stage))


def _naive_bayes(graph: SparkGraph, stage: Any) -> None:
    g, value, kind = graph.g, _features(graph, stage), str(stage.getModelType())
    pi, theta = _array(stage.pi), _array(stage.theta)
    if kind == "gaussian":
        sigma = _array(stage.sigma)
        apart = g.node("Sub", g.node("Unsqueeze", value.name, g.value([1], "INT64")), g.value(theta[None]))
        squares = g.node("Mul", g.node("Mul", apart, apart), g.value((-0.5 / sigma)[None]))
        total = g.node("ReduceSum", squares, g.value([2], "INT64"), keepdims=0)
        raw = g.node("Add", total, g.value((pi - np.log(sigma).sum(axis=1) / 2)[None]))
        for at in range(value.width):
            graph.mark(value, at, list(theta[:, at]))
    else:
        if kind == "bernoulli":
            negative = np.log(1 - np.exp(theta))
            raw = _linear(graph, stage, theta - negative, pi + negative.sum(axis=1))
            known = g.node("Or", g.node("Equal", value.name, g.value(0.0)), g.node("Equal", value.name, g.value(1.0)))
        else:
            raw = _linear(graph, stage, theta, pi if kind == "multinomial" else np.zeros_like(pi))
            if kind == "complement":
                raw = g.node("LogSoftmax", raw, axis=1)
            known = g.node("GreaterOrEqual", value.name, g.value(0.0))
        graph.wrong_where_any(g.node("Not", known))
        for source in graph.sources(value):
            source.counts, source.high = True, 1 if kind == "bernoulli" else source.high
    for source in graph.sources(value):
        source.missing = False
    _classified(graph, stage, raw, _softmax(graph, raw), len(pi))


def _perceptron(graph: SparkGraph, stage: Any) -> None:
    g, value, layers = graph.g, _features(graph, stage).name, [int(size) for size in stage.getLayers()]
    weights, at = _array(stage.weights), 0
    for index, (takes, gives) in enumerate(pairwise(layers)):
        matrix = weights[at : at + takes * gives].reshape(takes, gives)  # by columns of [gives, takes]
        at += takes * gives
        value = g.node("MatMul", value, g.value(matrix))
        value = g.node("Add", value, g.value(weights[None, at : at + gives]))
        at += gives
        if index < len(layers) - 2:
            value = g.node("Sigmoid", value)
    if at != len(weights):
        raise RefusedError("the perceptron's weights are not as many as its layers need: the data are damaged")
    _classified(graph, stage, value, _softmax(graph, value), layers[-1])


def _tree_classifier(graph: SparkGraph, stage: Any, rows: Sequence[Any]) -> None:
    g, many = graph.g, hasattr(stage, "treeWeights")
    raw, classes = Forest(graph, _features(graph, stage), trees_of(rows)).shares(normalised=many)
    total = g.node("ReduceSum", raw, g.value([1], "INT64"), keepdims=1)
    safe = g.node("Where", g.node("Equal", total, g.value(0.0)), g.value(1.0), total)
    _classified(graph, stage, raw, g.node("Div", raw, safe), classes)


def _boosted_classifier(graph: SparkGraph, stage: Any, rows: Sequence[Any]) -> None:
    margin = Forest(graph, _features(graph, stage), trees_of(rows)).weighted(stage.treeWeights)
    twice = graph.g.node("Mul", margin, graph.g.value(2.0))
    _classified(graph, stage, _both(graph, margin), _sigmoids(graph, twice), 2)


def _tree_regressor(graph: SparkGraph, stage: Any, rows: Sequence[Any]) -> None:
    trees = trees_of(rows)
    boosted = type(stage).__name__ == "GBTRegressionModel"
    weights = list(stage.treeWeights) if boosted else [1.0] * len(trees)
    value = Forest(graph, _features(graph, stage), trees).weighted(weights)
    if not boosted and len(trees) > 1:
        value = graph.g.node("Div", value, graph.g.value(float(len(trees))))
    _put(graph, stage, "predictionCol", value)


def _linear_regression(graph: SparkGraph, stage: Any) -> None:
    _put(
        graph,
        stage,
        "predictionCol",
        _linear(graph, stage, _array(stage.coefficients)[None], np.array([stage.intercept])),
    )


def _survival(graph: SparkGraph, stage: Any) -> None:
    if is_set(stage, "quantilesCol") and stage.getQuantilesCol():
        raise RefusedError("quantiles of AFTSurvivalRegression are not converted: save it without quantilesCol")
    eta = _linear(graph, stage, _array(stage.coefficients)[None], np.array([stage.intercept]))
    _put(graph, stage, "predictionCol", graph.g.node("Exp", eta))


def _generalised(graph: SparkGraph, stage: Any) -> None:
    if is_set(stage, "offsetCol") and stage.getOffsetCol():
        raise RefusedError("a generalised linear model with an offset column is not converted: add its offset yourself")
    g, family = graph.g, str(stage.getFamily()).lower()
    eta = _linear(graph, stage, _array(stage.coefficients)[None], np.array([stage.intercept]))
    if is_set(stage, "linkPredictionCol") and stage.getLinkPredictionCol():
        graph.values[str(stage.getLinkPredictionCol())] = mixed(eta, is_vector=False, width=1)
    mean = _unlinked(graph, stage, family, eta)
    low, high = g.value(_GLM_EPSILON), g.value(float(np.finfo(np.float64).max))
    power = float(stage.getVariancePower()) if family == "tweedie" else 0.0
    if family == "binomial":
        mean = g.node("Min", g.node("Max", mean, low), g.value(1.0 - _GLM_EPSILON))
    elif family in ("poisson", "gamma") or power >= 1:
        mean = g.node("Min", g.node("Max", mean, low), high)
    _put(graph, stage, "predictionCol", mean)


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
    g, value = graph.g, _features(graph, stage)
    at = int(stage.getFeatureIndex()) if value.is_vector else 0
    x = g.node("Gather", value.name, g.value([at], "INT64"), axis=1)
    bounds, known = _array(stage.boundaries), _array(stage.predictions)
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
    missing = g.node("IsNaN", x)
    graph.wrong_where(missing)
    _put(graph, stage, "predictionCol", g.node("Where", flat, y0, inside))


def _k_means(graph: SparkGraph, stage: Any) -> None:
    g, value = graph.g, _features(graph, stage)
    centers = np.array([np.asarray(center, np.float64) for center in stage.clusterCenters()])
    x = value.name
    if stage.getDistanceMeasure() == "cosine":
        lengths = np.linalg.norm(centers, axis=1, keepdims=True)
        centers = centers / np.where(lengths == 0, 1.0, lengths)
        near = g.node("MatMul", x, g.value(centers.T.copy()))
        best = g.node("ArgMax", near, axis=1, keepdims=1)
    else:
        apart = g.node("Sub", g.node("Unsqueeze", x, g.value([1], "INT64")), g.value(centers[None]))
        distance = g.node("ReduceSum", g.node("Mul", apart, apart), g.value([2], "INT64"), keepdims=0)
        best = g.node("ArgMin", distance, axis=1, keepdims=1)
    graph.wrong_where_any(g.node("IsNaN", x))
    for at in range(value.width):
        graph.mark(value, at, list(centers[:, at]))
    for source in graph.sources(value):
        source.missing = False
    _put(graph, stage, "predictionCol", g.to(best, "FP64"))


def _mixture(graph: SparkGraph, stage: Any) -> None:
    """Densities as Spark computes them, in the axes of each covariance without those that do not vary."""
    g, value, shares = graph.g, _features(graph, stage), []
    for weight, gaussian in zip(stage.weights, stage.gaussians, strict=True):
        mean, covariance = _array(gaussian.mean), _array(gaussian.cov)
        sizes, axes = np.linalg.eigh(covariance)
        kept = sizes > _EPSILON * sizes.max() * len(sizes)
        root = (axes[:, kept] / np.sqrt(sizes[kept])).T
        constant = -0.5 * (len(mean) * np.log(2 * np.pi) + np.log(sizes[kept]).sum())
        apart = g.node("MatMul", g.node("Sub", value.name, g.value(mean[None])), g.value(root.T.copy()))
        squares = g.node("ReduceSum", g.node("Mul", apart, apart), g.value([1], "INT64"), keepdims=1)
        density = g.node("Exp", g.node("Add", g.node("Mul", squares, g.value(-0.5)), g.value(constant)))
        shares.append(g.node("Add", g.node("Mul", density, g.value(float(weight))), g.value(_EPSILON)))
        for at in range(value.width):
            graph.mark(value, at, [mean[at], mean[at] + covariance[at, at] ** 0.5])
    for source in graph.sources(value):
        source.missing = False
    graph.wrong_where_any(g.node("IsNaN", value.name))
    together = g.node("Concat", *shares, axis=1)
    likely = g.node("Div", together, g.node("ReduceSum", together, g.value([1], "INT64"), keepdims=1))
    _put(graph, stage, "probabilityCol", likely, len(shares))
    _put(graph, stage, "predictionCol", g.to(g.node("ArgMax", likely, axis=1, keepdims=1), "FP64"))


MODELS: dict[str, Callable[[SparkGraph, Any], None]] = {
    "LogisticRegressionModel": _logistic, "LinearSVCModel": _linear_svc, "NaiveBayesModel": _naive_bayes,
    "FMClassificationModel": _fm_classifier, "MultilayerPerceptronClassificationModel": _perceptron,
    "LinearRegressionModel": _linear_regression, "GeneralizedLinearRegressionModel": _generalised,
    "AFTSurvivalRegressionModel": _survival, "FMRegressionModel": _fm_regressor, "IsotonicRegressionModel": _isotonic,
    "KMeansModel": _k_means, "GaussianMixtureModel": _mixture,
}  # fmt: skip
TREES: dict[str, Callable[[SparkGraph, Any, Sequence[Any]], None]] = {
    "DecisionTreeClassificationModel": _tree_classifier, "RandomForestClassificationModel": _tree_classifier,
    "GBTClassificationModel": _boosted_classifier, "DecisionTreeRegressionModel": _tree_regressor,
    "RandomForestRegressionModel": _tree_regressor, "GBTRegressionModel": _tree_regressor,
}  # fmt: skip
