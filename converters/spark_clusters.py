"""Spark's clusterings as ONNX, in double. What each does with a vector: its class of org.apache.spark.ml.clustering, of
the same name.

In the process of a conversion alone. A model is Spark's own object, loaded.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from converters.spark_graph import SparkGraph
from converters.spark_vectors import array_of, features_of, put

_EPSILON = 2.0**-52  # MLUtils.EPSILON


def _k_means(graph: SparkGraph, stage: Any) -> None:
    g, value = graph.g, features_of(graph, stage)
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
    put(graph, stage, "predictionCol", g.to(best, "FP64"))


def _mixture(graph: SparkGraph, stage: Any) -> None:
    """Densities as Spark computes them, in the axes of each covariance without those that do not vary."""
    g, value, shares = graph.g, features_of(graph, stage), []
    for weight, gaussian in zip(stage.weights, stage.gaussians, strict=True):
        mean, covariance = array_of(gaussian.mean), array_of(gaussian.cov)
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
    put(graph, stage, "probabilityCol", likely, len(shares))
    put(graph, stage, "predictionCol", g.to(g.node("ArgMax", likely, axis=1, keepdims=1), "FP64"))


CLUSTERINGS: dict[str, Callable[[SparkGraph, Any], None]] = {"KMeansModel": _k_means, "GaussianMixtureModel": _mixture}
