"""Spark's classifiers as ONNX, in double. What each does with a vector: its class of the same name in
org.apache.spark.ml.classification.

In the process of a conversion alone. A model is Spark's own object, loaded; the `rows` of trees are what lies in its
folder.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.spark_columns import is_set
from converters.spark_graph import SparkGraph
from converters.spark_trees import Forest, trees_of
from converters.spark_vectors import array_of, column_of, factors, features_of, linear, put


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
    put(graph, stage, "rawPredictionCol", raw, classes)
    put(graph, stage, "probabilityCol", shares, classes)
    put(graph, stage, "predictionCol", best)


def _logistic(graph: SparkGraph, stage: Any) -> None:
    g, coefficients = graph.g, array_of(stage.coefficientMatrix)
    raw = linear(graph, stage, coefficients, array_of(stage.interceptVector))
    if len(coefficients) > 1:
        _classified(graph, stage, raw, _softmax(graph, raw), len(coefficients))
        return
    limit = float(stage.getThreshold())
    with np.errstate(divide="ignore"):
        above = g.node("Greater", raw, g.value(float(np.log(limit / (1 - limit)) if limit < 1 else np.inf)))
    put(graph, stage, "rawPredictionCol", _both(graph, raw), 2)
    put(graph, stage, "probabilityCol", _sigmoids(graph, raw), 2)
    put(graph, stage, "predictionCol", g.to(above, "FP64"))


def _linear_svc(graph: SparkGraph, stage: Any) -> None:
    g = graph.g
    margin = linear(graph, stage, array_of(stage.coefficients)[None], np.array([stage.intercept]))
    put(graph, stage, "rawPredictionCol", _both(graph, margin), 2)
    put(graph, stage, "predictionCol", g.to(g.node("Greater", margin, g.value(float(stage.getThreshold()))), "FP64"))


def _fm_classifier(graph: SparkGraph, stage: Any) -> None:
    margin = factors(graph, stage)
    _classified(graph, stage, _both(graph, margin), _sigmoids(graph, margin), 2)


def _naive_bayes(graph: SparkGraph, stage: Any) -> None:
    g, value, kind = graph.g, features_of(graph, stage), str(stage.getModelType())
    pi, theta = array_of(stage.pi), array_of(stage.theta)
    if kind == "gaussian":
        sigma = array_of(stage.sigma)
        apart = g.node("Sub", g.node("Unsqueeze", value.name, g.value([1], "INT64")), g.value(theta[None]))
        squares = g.node("Mul", g.node("Mul", apart, apart), g.value((-0.5 / sigma)[None]))
        total = g.node("ReduceSum", squares, g.value([2], "INT64"), keepdims=0)
        raw = g.node("Add", total, g.value((pi - np.log(sigma).sum(axis=1) / 2)[None]))
        for at in range(value.width):
            graph.mark(value, at, list(theta[:, at]))
    else:
        if kind == "bernoulli":
            negative = np.log(1 - np.exp(theta))
            raw = linear(graph, stage, theta - negative, pi + negative.sum(axis=1))
            known = g.node("Or", g.node("Equal", value.name, g.value(0.0)), g.node("Equal", value.name, g.value(1.0)))
        else:
            raw = linear(graph, stage, theta, pi if kind == "multinomial" else np.zeros_like(pi))
            if kind == "complement":
                raw = g.node("LogSoftmax", raw, axis=1)
            known = g.node("GreaterOrEqual", value.name, g.value(0.0))
        if value.bag is None or kind == "bernoulli":  # counts of words are never less than none
            graph.wrong_where_any(g.node("Not", known))
        for source in graph.sources(value):
            source.counts, source.high = True, 1 if kind == "bernoulli" else source.high
    for source in graph.sources(value):
        source.missing = False
    _classified(graph, stage, raw, _softmax(graph, raw), len(pi))


def _perceptron(graph: SparkGraph, stage: Any) -> None:
    g, value, layers = graph.g, features_of(graph, stage).name, [int(size) for size in stage.getLayers()]
    weights, at = array_of(stage.weights), 0
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
    raw, classes = Forest(graph, features_of(graph, stage), trees_of(rows)).shares(normalised=many)
    total = g.node("ReduceSum", raw, g.value([1], "INT64"), keepdims=1)
    safe = g.node("Where", g.node("Equal", total, g.value(0.0)), g.value(1.0), total)
    _classified(graph, stage, raw, g.node("Div", raw, safe), classes)


def _boosted_classifier(graph: SparkGraph, stage: Any, rows: Sequence[Any]) -> None:
    margin = Forest(graph, features_of(graph, stage), trees_of(rows)).weighted(stage.treeWeights)
    twice = graph.g.node("Mul", margin, graph.g.value(2.0))
    _classified(graph, stage, _both(graph, margin), _sigmoids(graph, twice), 2)


def one_vs_rest(graph: SparkGraph, stage: Any, data: Callable[[int], Sequence[Any]]) -> None:
    """The class of which its own model is surest. `data`: the rows that lie in the folder of the model of a class."""
    g, value, raws = graph.g, features_of(graph, stage), []
    around = graph.values
    for index, model in enumerate(model.copy() for model in stage.models):
        graph.values = {column_of(model, "featuresCol"): value}
        model.set(model.rawPredictionCol, "raw")
        kind = type(model).__name__
        if kind in TREE_CLASSIFIERS:
            TREE_CLASSIFIERS[kind](graph, model, data(index))
        else:
            CLASSIFIERS[kind](graph, model)
        raws.append(g.node("Gather", graph.values["raw"].name, g.value([1], "INT64"), axis=1))
    graph.values = around
    raw = raws[0] if len(raws) == 1 else g.node("Concat", *raws, axis=1)
    put(graph, stage, "rawPredictionCol", raw, len(raws))
    # Where none is more than minus infinity, Spark says -1.
    ranked = g.node("Where", g.node("IsNaN", raw), g.value(-np.inf), raw)
    best = g.to(g.node("ArgMax", ranked, axis=1, keepdims=1), "FP64")
    none = g.node("Equal", g.node("ReduceMax", ranked, g.value([1], "INT64"), keepdims=1), g.value(-np.inf))
    put(graph, stage, "predictionCol", g.node("Where", none, g.value(-1.0), best))


CLASSIFIERS: dict[str, Callable[[SparkGraph, Any], None]] = {
    "LogisticRegressionModel": _logistic, "LinearSVCModel": _linear_svc, "NaiveBayesModel": _naive_bayes,
    "FMClassificationModel": _fm_classifier, "MultilayerPerceptronClassificationModel": _perceptron,
}  # fmt: skip
TREE_CLASSIFIERS: dict[str, Callable[[SparkGraph, Any, Sequence[Any]], None]] = {
    "DecisionTreeClassificationModel": _tree_classifier,
    "RandomForestClassificationModel": _tree_classifier,
    "GBTClassificationModel": _boosted_classifier,
}
