"""Spark's stages that scale a vector as ONNX: each number by itself, or all by their norm. What each does: its class of
org.apache.spark.ml.feature, of the same name.

In the process of a conversion alone. A stage is Spark's own object, loaded; its columns are in the graph already.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from converters.converter import Array
from converters.spark_columns import inputs_of, outputs_of
from converters.spark_graph import SparkGraph, Value, mixed, scaled
from converters.spark_vectors import array_of


def _mark_all(graph: SparkGraph, value: Value, marks: Sequence[Array]) -> None:
    for numbers in marks:
        for at, number in enumerate(numbers):
            graph.mark(value, at, [number])


def _affine(graph: SparkGraph, stage: Any, factors: Array, offsets: Array, marks: Sequence[Array] = ()) -> None:
    """x * factor + offset."""
    g, value = graph.g, graph.values[inputs_of(stage)[0]]
    _mark_all(graph, value, marks)
    name = value.name
    if (factors != 1).any():
        name = g.node("Mul", name, g.value(factors[None]))
    if offsets.any():
        name = g.node("Add", name, g.value(offsets[None]))
    graph.values[outputs_of(stage)[0]] = scaled(value, name, factors, offsets)


def _over(numbers: Array) -> Array:
    """1 / x, and 0 for 0: what does not vary becomes 0."""
    return np.divide(1.0, numbers, out=np.zeros_like(numbers), where=numbers != 0)


def _shifted(graph: SparkGraph, stage: Any, centers: Array, factors: Array, marks: Sequence[Array]) -> None:
    """(x - center) * factor, in this order, as large centers cost digits otherwise."""
    g, value = graph.g, graph.values[inputs_of(stage)[0]]
    _mark_all(graph, value, marks)
    name = g.node("Sub", value.name, g.value(centers[None])) if centers.any() else value.name
    if (factors != 1).any():
        name = g.node("Mul", name, g.value(factors[None]))
    graph.values[outputs_of(stage)[0]] = scaled(value, name, factors, -centers * factors)


def _standard(graph: SparkGraph, stage: Any) -> None:
    mean, std = array_of(stage.mean), array_of(stage.std)
    factors = _over(std) if stage.getWithStd() else np.ones_like(std)
    centers = mean if stage.getWithMean() else np.zeros_like(mean)
    _shifted(graph, stage, centers, factors, (mean, mean - 2 * std, mean + 2 * std))


def _robust(graph: SparkGraph, stage: Any) -> None:
    median, spread = array_of(stage.median), array_of(stage.range)
    factors = _over(spread) if stage.getWithScaling() else np.ones_like(spread)
    centers = median if stage.getWithCentering() else np.zeros_like(median)
    _shifted(graph, stage, centers, factors, (median, median - spread, median + spread))


def _min_max(graph: SparkGraph, stage: Any) -> None:
    low, high = array_of(stage.originalMin), array_of(stage.originalMax)
    to_low, to_high = stage.getMin(), stage.getMax()
    factors = _over(high - low) * (to_high - to_low)
    offsets = np.where(high == low, (to_low + to_high) / 2, to_low - low * factors)
    _affine(graph, stage, factors, offsets, (low, high))


def _max_abs(graph: SparkGraph, stage: Any) -> None:
    largest = array_of(stage.maxAbs)
    factors = 1 / np.where(largest == 0, 1.0, largest)
    _affine(graph, stage, factors, np.zeros_like(largest), (largest, -largest))


def _inverse_frequencies(graph: SparkGraph, stage: Any) -> None:
    g, factors, value = graph.g, array_of(stage.idf), graph.values[inputs_of(stage)[0]]
    _affine(graph, stage, factors, np.zeros_like(factors))
    if value.bag is not None:
        output = outputs_of(stage)[0]
        factor = g.node("Gather", g.value(np.append(factors, 0.0)), value.bag.slots)
        bag = value.bag._replace(weights=g.node("Mul", value.bag.weights, factor))
        graph.values[output] = graph.values[output]._replace(bag=bag)


def _elementwise(graph: SparkGraph, stage: Any) -> None:
    factors = array_of(stage.getScalingVec())
    _affine(graph, stage, factors, np.zeros_like(factors))


def _normalizer(graph: SparkGraph, stage: Any) -> None:
    g, value, p = graph.g, graph.values[inputs_of(stage)[0]], float(stage.getP())
    axis, size = g.value([1], "INT64"), g.node("Abs", value.name)
    if p == 1:
        norm = g.node("ReduceSum", size, axis, keepdims=1)
    elif p == np.inf:
        norm = g.node("ReduceMax", size, axis, keepdims=1)
    else:
        powered = g.node("Mul", size, size) if p == 2 else g.node("Pow", size, g.value(p))
        total = g.node("ReduceSum", powered, axis, keepdims=1)
        norm = g.node("Sqrt", total) if p == 2 else g.node("Pow", total, g.value(1 / p))
    safe = g.node("Where", g.node("Equal", norm, g.value(0.0)), g.value(1.0), norm)
    graph.values[outputs_of(stage)[0]] = mixed(g.node("Div", value.name, safe), value.width)


SCALERS: dict[str, Callable[[SparkGraph, Any], None]] = {
    "StandardScalerModel": _standard, "RobustScalerModel": _robust, "MinMaxScalerModel": _min_max,
    "MaxAbsScalerModel": _max_abs, "ElementwiseProduct": _elementwise, "Normalizer": _normalizer,
    "IDFModel": _inverse_frequencies,
}  # fmt: skip
