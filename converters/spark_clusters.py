"""Spark's clusterings as ONNX, in double. What each does with a vector: its class of org.apache.spark.ml.clustering, of
the same name.

In the process of a conversion alone. A model is Spark's own object, loaded.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Array
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


def _bisecting(graph: SparkGraph, stage: Any, rows: Sequence[Any]) -> None:
    """From the root down to the nearer of two centers, until there is none below."""
    if stage.getDistanceMeasure() == "cosine":
        raise RefusedError("BisectingKMeans with the cosine is not converted: fit KMeans with it, or use the distance")
    g, value, places = graph.g, features_of(graph, stage), {int(row["index"]): at for at, row in enumerate(rows)}
    below, depths = _tree([[places.get(int(child), -1) for child in row["children"]] for row in rows])
    centers = np.array([array_of(row["center"]) for row in rows])
    if centers.shape[1] != value.width:
        raise RefusedError(f"the centers are of {centers.shape[1]} numbers for a vector of {value.width}")
    apart = g.node("Sub", g.node("Unsqueeze", value.name, g.value([1], "INT64")), g.value(centers[None]))
    distance = g.node("ReduceSum", g.node("Mul", apart, apart), g.value([2], "INT64"), keepdims=0)
    shape = g.node("Concat", g.node("Shape", value.name, end=1), g.value([1], "INT64"), axis=0)
    at = g.node("Expand", g.value(int(np.argmax(depths)), "INT64"), shape)
    for _ in range(max(depths)):
        left, right = (g.node("Gather", g.value(below[:, side].copy(), "INT64"), at) for side in (0, 1))
        near, far = (g.node("GatherElements", distance, one, axis=1) for one in (left, right))
        at = g.node("Where", g.node("Less", far, near), right, left)
    graph.wrong_where_any(g.node("IsNaN", value.name))
    for element in range(value.width):
        graph.mark(value, element, list(centers[:, element]))
    for source in graph.sources(value):
        source.missing = False
    clusters = g.value([float(row["index"]) for row in rows])
    put(graph, stage, "predictionCol", g.node("Gather", clusters, at))


def _tree(children: list[list[int]]) -> tuple[Array, list[int]]:
    """Of each node the two below it, itself where there are none, and how many steps down the last are."""
    depths = [0] * len(children)
    taken = sorted(child for pair in children for child in pair)
    whole = all(len(pair) in (0, 1, 2) and min(pair, default=0) >= 0 for pair in children)
    if not children or not whole or len(set(taken)) != len(taken) or len(taken) != len(children) - 1:
        raise RefusedError("the clusters are no tree: the model's data are damaged")
    for _ in children:  # as deep as it could be
        known = [1 + max(depths[child] for child in pair) if pair else 0 for pair in children]
        if known == depths:
            below = [[*pair, *pair][:2] if pair else [at, at] for at, pair in enumerate(children)]
            return np.array(below, np.int64), depths
        depths = known
    raise RefusedError("the clusters are no tree: the model's data are damaged")


TREE_CLUSTERINGS: dict[str, Callable[[SparkGraph, Any, Sequence[Any]], None]] = {"BisectingKMeansModel": _bisecting}
CLUSTERINGS: dict[str, Callable[[SparkGraph, Any], None]] = {"KMeansModel": _k_means, "GaussianMixtureModel": _mixture}
