"""Spark's stages that make more columns of a few, as ONNX: products, powers, cosines. What each does: its class of
org.apache.spark.ml.feature, of the same name.

In the process of a conversion alone. A stage is Spark's own object, loaded.
"""

from collections.abc import Callable, Iterator
from math import comb
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.spark_columns import inputs_of, not_skipped, outputs_of
from converters.spark_graph import MAX_WIDTH, SparkGraph, mixed


def _interaction(graph: SparkGraph, stage: Any) -> None:
    """All products of an element of each column, the last column's changing first. Categories become ones first."""
    g, name, width = graph.g, "", 1
    for column in inputs_of(stage):
        value = graph.values[column]
        for source in graph.sources(value):
            source.missing = False
        part, size = value.name, value.width
        if column in graph.categories:
            size = graph.categories[column]
            part = g.to(g.node("Equal", part, g.value(np.arange(size, dtype=np.float64)[None])), "FP64")
        width *= size
        if not 0 < width <= MAX_WIDTH:
            raise RefusedError(f"Interaction makes {width} columns: at most {MAX_WIDTH} are taken")
        if name:
            left, right = (g.node("Unsqueeze", one, g.value([at], "INT64")) for one, at in ((name, 2), (part, 1)))
            part = g.shaped(g.node("Mul", left, right), [-1, width])
        name = part
    graph.values[outputs_of(stage)[0]] = mixed(name, width)


def _powers(last: int, degree: int, taken: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The elements of each product, in Spark's order; the first has none."""
    if not degree or last < 0:
        yield taken
        return
    for times in range(degree + 1):
        yield from _powers(last - 1, degree - times, taken + (last,) * times)


def _polynomial(graph: SparkGraph, stage: Any) -> None:
    g, value, degree = graph.g, graph.values[inputs_of(stage)[0]], int(stage.getDegree())
    size = comb(value.width + degree, degree) - 1
    if size > MAX_WIDTH:
        raise RefusedError(f"PolynomialExpansion makes {size} columns: at most {MAX_WIDTH} are taken")
    terms = list(_powers(value.width - 1, degree))[1:]
    # Products of fewer elements are filled up with a column of ones, the last.
    places = np.array([[*term, *[value.width] * (degree - len(term))] for term in terms], np.int64)
    ones = g.node("Pad", value.name, g.value([0, 0, 0, 1], "INT64"), g.value(1.0))
    name = ""
    for power in range(degree):
        factor = g.node("Gather", ones, g.value(places[:, power].copy(), "INT64"), axis=1)
        name = g.node("Mul", name, factor) if name else factor
    graph.values[outputs_of(stage)[0]] = mixed(name, size)


def _cosines(graph: SparkGraph, stage: Any) -> None:
    """The cosine transform (DCT-II) of unit length, or its inverse."""
    g, value = graph.g, graph.values[inputs_of(stage)[0]]
    size = value.width
    rows, columns = np.arange(size)[:, None], np.arange(size)[None]
    matrix = np.cos(np.pi * (2 * columns + 1) * rows / (2 * size)) * np.sqrt(np.where(rows == 0, 1, 2) / size)
    for source in graph.sources(value):
        source.missing = False
    name = g.node("MatMul", value.name, g.value(matrix if stage.getInverse() else matrix.T.copy()))
    graph.values[outputs_of(stage)[0]] = mixed(name, size)


def _size_hint(graph: SparkGraph, stage: Any) -> None:
    not_skipped(stage)
    graph.values[outputs_of(stage)[0]] = graph.values[inputs_of(stage)[0]]


EXPANSIONS: dict[str, Callable[[SparkGraph, Any], None]] = {
    "Interaction": _interaction, "PolynomialExpansion": _polynomial, "DCT": _cosines, "VectorSizeHint": _size_hint,
}  # fmt: skip
