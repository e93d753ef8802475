"""scikit-learn's splines of columns, as ONNX in double precision. In the process of a conversion alone."""

import math
from typing import Any

import numpy as np

from converters.sklearn_distances import number
from converters.sklearn_table import Block, Table, looked_up, reached


def written(part: Any, table: Table) -> Table:
    """Each piece between two knots is a polynomial; beyond the last ones the first and last pieces,
    their ends, straight lines on from there, or the same again."""
    graph, made = table.graph, []
    for column, spline in zip(table.columns(), part.bsplines_, strict=True):
        degree, knots = spline.k, np.asarray(spline.t, np.float64)
        low, high = knots[degree], knots[-degree - 1]
        inner = np.unique(knots[(knots >= low) & (knots <= high)])
        x = column.value
        if part.extrapolation == "periodic":
            turns = graph.node(
                "Floor", graph.node("Div", graph.node("Sub", x, number(graph, low)), number(graph, high - low))
            )
            x = graph.node("Sub", x, graph.node("Mul", turns, number(graph, high - low)))
        elif part.extrapolation != "continue":
            x = graph.node("Max", graph.node("Min", x, number(graph, high)), number(graph, low))
        piece = reached(table, x, inner[1:-1])
        along = graph.node("Sub", x, looked_up(graph, piece, inner[:-1]))
        flat = graph.node("Squeeze", piece, graph.constant(np.array([1], np.int64)))
        width = spline.c.shape[1] - (0 if part.include_bias else 1)
        value = number(graph, np.zeros((1, width)))
        for power in range(degree, -1, -1):
            coefficients = spline(inner[:-1], nu=power)[:, :width] / math.factorial(power)
            rows = graph.node("Gather", number(graph, coefficients), flat, axis=0)
            value = graph.node("Add", graph.node("Mul", value, along), rows)
        if part.extrapolation == "linear":
            beyond = graph.node("Sub", column.value, x)
            for side, end in (("Min", low), ("Max", high)):
                slope = number(graph, spline(end, nu=1)[None, :width])
                value = graph.node("Add", value, graph.node("Mul", graph.node(side, beyond, number(graph, 0.0)), slope))
        made.append(Block(value, width))
    return table.of(*made)
