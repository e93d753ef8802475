"""What the transformer of a target undoes (TransformedTargetRegressor), as ONNX in double precision.

In the process of a conversion alone.
"""

from typing import Any

import numpy as np

from converters.converter import require
from converters.sklearn_distances import number
from converters.sklearn_steps import function
from converters.sklearn_table import Block, Table, interpolated


def inverse(part: Any, table: Table) -> Table:
    """What the transformer of a target undoes."""
    if hasattr(part, "steps"):
        for _, step in reversed(part.steps):
            table = table if step is None or isinstance(step, str) else inverse(step, table)
        return table
    graph, name, value = table.graph, type(part).__name__, table.matrix()
    if name == "FunctionTransformer":
        func = part.inverse_func
        return table if func is None else table.of(Block(function(table, func, value, "the target"), table.width))
    if name == "MinMaxScaler":
        value = graph.node("Sub", value, number(table.graph, part.min_))
        return table.of(Block(graph.node("Div", value, number(graph, part.scale_)), table.width))
    if name == "PowerTransformer":
        if part.standardize:
            table = inverse(part._scaler, table)
        write = _box_cox_undone if part.method == "box-cox" else _yeo_johnson_undone
        undone = [write(table, *pair) for pair in zip(table.columns(), map(float, part.lambdas_), strict=True)]
        return table.of(*undone)
    if name == "QuantileTransformer" and part.output_distribution == "uniform":
        known = [np.asarray(part.quantiles_[:, at], np.float64) for at in range(table.width)]
        return table.of(*(Block(interpolated(graph, column.value, np.asarray(part.references_, np.float64), one), 1)
                          for column, one in zip(table.columns(), known, strict=True)))  # fmt: skip
    require(name in ("StandardScaler", "RobustScaler"), f"a target behind {name} is not converted: use a scaler or a "
            "PowerTransformer, or func=numpy.log1p and inverse_func=numpy.expm1")  # fmt: skip
    offset = getattr(part, "mean_", None) if name == "StandardScaler" else getattr(part, "center_", None)
    if part.scale_ is not None:
        value = graph.node("Mul", value, number(table.graph, part.scale_))
    if offset is not None:
        value = graph.node("Add", value, number(table.graph, offset))
    return table.of(Block(value, table.width))


def _box_cox_undone(table: Table, column: Block, power: float) -> Block:
    graph = table.graph
    if power == 0:
        return Block(graph.node("Exp", column.value), 1)
    scaled = graph.node("Add", graph.node("Mul", column.value, number(table.graph, power)), number(table.graph, 1.0))
    return Block(graph.node("Pow", scaled, number(table.graph, 1.0 / power)), 1)


def _yeo_johnson_undone(table: Table, column: Block, power: float) -> Block:
    graph, one, zero = table.graph, number(table.graph, 1.0), number(table.graph, 0.0)
    # Each side sees only what is its own, so that no power is taken of a negative number.
    up = Block(graph.node("Max", column.value, zero), 1)
    down = Block(graph.node("Neg", graph.node("Min", column.value, zero)), 1)
    above = _box_cox_undone(table, up, 0.0 if abs(power) < np.spacing(1.0) else power)
    below = _box_cox_undone(table, down, 0.0 if abs(power - 2) <= np.spacing(1.0) else 2.0 - power)
    is_up = graph.node("GreaterOrEqual", column.value, zero)
    return Block(
        graph.node("Where", is_up, graph.node("Sub", above.value, one), graph.node("Sub", one, below.value)), 1
    )
