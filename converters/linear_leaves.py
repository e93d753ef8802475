"""Leaves that are a linear function of some columns each, as tables that ONNX looks up by the leaf's number.

In the process of a conversion alone. A leaf is its constant plus its columns times their coefficients; where one of
these columns is missing it is the leaf's plain value (LightGBM include/LightGBM/tree.h, linear trees).
"""

from collections.abc import Sequence

import numpy as np

from appliance.core.errors import RefusedError
from converters.graph import Graph


class LinearLeaves:
    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._constants: list[float] = []
        self._plain: list[float] = []
        self._terms: list[Sequence[tuple[int, float]]] = []

    @property
    def count(self) -> int:
        return len(self._constants)

    def add(self, constant: float, plain: float, terms: Sequence[tuple[int, float]]) -> None:
        """The next leaf; `terms` are columns and their coefficients."""
        if any(not 0 <= column < self._columns for column, _ in terms):
            raise RefusedError("a linear leaf names a column that the model does not have: the file is damaged")
        self._constants.append(constant)
        self._plain.append(plain)
        self._terms.append(terms)

    def write(self, graph: Graph, x: str, numbers: str) -> str:
        """[rows, trees] of the leaves' values, of [rows, trees] of their numbers; all double."""
        width = max(1, *(len(terms) for terms in self._terms))
        # One column more, which is always zero, for leaves with fewer terms than others.
        columns = np.full((self.count, width), self._columns, np.int64)
        coefficients = np.zeros((self.count, width))
        for leaf, terms in enumerate(self._terms):
            for at, (column, coefficient) in enumerate(terms):
                columns[leaf, at], coefficients[leaf, at] = column, coefficient
        first = graph.node("Gather", x, graph.constant(np.array([0], np.int64)), axis=1)
        zero = graph.constant(np.zeros(()))
        zeros = graph.node("Expand", zero, graph.node("Shape", first))
        wide = graph.node("Concat", x, zeros, axis=1)
        number = graph.cast(numbers, np.int64)
        wanted = graph.node("Gather", graph.constant(columns), number, axis=0)  # [rows, trees, width]
        flat = graph.node("Reshape", wanted, graph.constant(np.array([0, -1], np.int64)))
        shape = graph.node("Shape", wanted)
        values = graph.node("Reshape", graph.node("GatherElements", wide, flat, axis=1), shape)
        products = graph.node("Mul", values, graph.node("Gather", graph.constant(coefficients), number, axis=0))
        last = graph.constant(np.array([2], np.int64))
        sums = graph.node("ReduceSum", products, last, keepdims=0)
        linear = graph.node(
            "Add", graph.node("Gather", graph.constant(np.array(self._constants)), number, axis=0), sums
        )
        absent = graph.cast(graph.node("IsNaN", values), np.float64)
        some = graph.node("Greater", graph.node("ReduceSum", absent, last, keepdims=0), zero)
        plain = graph.node("Gather", graph.constant(np.array(self._plain)), number, axis=0)
        return graph.node("Where", some, plain, linear)
