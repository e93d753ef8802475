"""A table on its way through a pipeline, as values of an ONNX graph: blocks of columns, of doubles or of texts.

In the process of a conversion alone. What scikit-learn does to columns is sklearn_steps.py's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from appliance.core.errors import RefusedError
from converters.graph import Graph

OPSET = 19  # which compares texts


class Block(NamedTuple):
    """`value` is [rows, width]."""

    value: str
    width: int
    is_text: bool = False


class Table(NamedTuple):
    """`is_sparse`: the original has it as a sparse matrix, where some libraries take zeros for missing. `given_single`:
    the whole of it in single precision, where it came so."""

    graph: Graph
    blocks: tuple[Block, ...]
    is_sparse: bool = False
    given_single: str = ""

    @property
    def width(self) -> int:
        return sum(block.width for block in self.blocks)

    def column(self, at: int) -> Block:
        """One column, counted over all blocks."""
        for block in self.blocks:
            if at < block.width:
                if block.width == 1:
                    return block
                place = self.graph.constant(np.array([at], np.int64))
                return Block(self.graph.node("Gather", block.value, place, axis=1), 1, block.is_text)
            at -= block.width
        raise RefusedError("a step of the model looks at a column that the one before it does not give")

    def columns(self) -> list[Block]:
        return [self.column(at) for at in range(self.width)]

    def taken(self, places: Sequence[int]) -> "Table":
        """These columns, in this order."""
        if list(places) == list(range(self.width)):
            return self
        if len(self.blocks) == 1 and not self.blocks[0].is_text and len(places):
            block = self.blocks[0]
            chosen = self.graph.node("Gather", block.value, self.graph.constant(np.array(places, np.int64)), axis=1)
            return self.of(Block(chosen, len(places)))
        return self.of(*(self.column(place) for place in places))

    def of(self, *blocks: Block) -> "Table":
        return Table(self.graph, tuple(block for block in blocks if block.width))

    def matrix(self) -> str:
        """All columns as one value of doubles. Raises RefusedError where one is of texts."""
        if any(block.is_text for block in self.blocks):
            raise RefusedError("a step of the model takes texts for numbers: encode the column in front of it")
        if not self.blocks:
            raise RefusedError("a step of the model is left without columns")
        if len(self.blocks) == 1:
            return self.blocks[0].value
        return self.graph.node("Concat", *(block.value for block in self.blocks), axis=1)

    def single(self) -> str:
        """matrix() in single precision."""
        return self.given_single or self.graph.cast(self.matrix(), np.float32)


def code_of(table: Table, column: Block, categories: Sequence[Any]) -> str:
    """[rows, 1] of whole numbers: which of the categories a cell is, `len(categories)` where it is none of them.

    A missing cell (NaN, or the empty text) is the category None or NaN, where there is one."""
    graph, unknown = table.graph, len(categories)
    missing = next((at for at, item in enumerate(categories) if item is None or item != item), None)
    if column.is_text:
        places = {str(item): at for at, item in reversed(list(enumerate(categories))) if at != missing}
        if missing is not None:
            places.setdefault("", missing)
        if not places:
            places = {"": unknown}
        return graph.node(
            "LabelEncoder",
            column.value,
            domain="ai.onnx.ml",
            keys_strings=list(places),
            values_int64s=list(places.values()),
            default_int64=unknown,
        )
    numbers = np.array([np.nan if at == missing else float(item) for at, item in enumerate(categories)], np.float64)
    equal = graph.node("Equal", column.value, graph.constant(numbers.reshape(1, -1)))
    # The first that is equal: with one more column behind all, which always is.
    parts = [graph.cast(equal, np.float32), ones_like(graph, column.value, np.float32)]
    if missing is not None:
        is_missing = graph.node("IsNaN", column.value)
        mask = graph.constant((np.arange(unknown) == missing).reshape(1, -1))
        parts[0] = graph.cast(graph.node("Or", equal, graph.node("And", is_missing, mask)), np.float32)
    return graph.node("ArgMax", graph.node("Concat", *parts, axis=1), axis=1, keepdims=1)


def looked_up(graph: Graph, code: str, values: NDArray[Any]) -> str:
    """[rows, 1] of what stands in `values` at each code; in front of all else a category becomes by this."""
    return graph.node("Gather", graph.constant(values), code, axis=0)


def ones_like(graph: Graph, value: str, dtype: Any) -> str:
    """[rows, 1] of ones, for a value of [rows, anything]."""
    rows = graph.node("Slice", graph.node("Shape", value), *(graph.constant(np.array([n], np.int64)) for n in (0, 1)))
    shape = graph.node("Concat", rows, graph.constant(np.array([1], np.int64)), axis=0)
    one = helper.make_tensor("one", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [1], [1])
    return graph.node("ConstantOfShape", shape, value=one)


def interpolated(graph: Graph, x: str, known: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    """numpy.interp() of [rows, 1]: on the line between the two known numbers around it, and flat beyond them."""
    if len(known) == 1:
        zero = graph.node("Mul", x, graph.constant(np.array(0.0)))
        return graph.node("Add", zero, graph.constant(values[:1].astype(np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.nan_to_num(np.diff(values) / np.diff(known), nan=0.0, posinf=0.0, neginf=0.0)
    reached = graph.node("GreaterOrEqual", x, graph.constant(known.reshape(1, -1)))
    count = graph.node("ReduceSum", graph.cast(reached, np.int64), graph.constant(np.array([1], np.int64)), keepdims=1)
    # 0: before all; len(known): behind all. The tables have a row for each.
    starts = np.r_[known[0], known]
    heights = np.r_[values[0], values]
    rises = np.r_[0.0, slopes, 0.0]
    beyond = graph.node("Sub", x, looked_up(graph, count, starts))
    # Infinity times the flat ends' zero would be NaN.
    flat = graph.node("Equal", looked_up(graph, count, rises), graph.constant(np.array(0.0)))
    finite = graph.node("Not", graph.node("IsNaN", x))
    still = graph.node("Where", graph.node("And", flat, finite), graph.constant(np.array(0.0)), beyond)
    return graph.node("Add", graph.node("Mul", looked_up(graph, count, rises), still), looked_up(graph, count, heights))


def reached(table: Table, x: str, edges: NDArray[np.float64]) -> str:
    """[rows, 1]: how many of the edges a number is at or beyond."""
    graph = table.graph
    if not len(edges):
        zero = graph.node("Mul", ones_like(graph, x, np.float64), graph.constant(np.array(0.0)))
        return graph.cast(zero, np.int64)
    beyond = graph.cast(graph.node("GreaterOrEqual", x, graph.constant(edges.reshape(1, -1))), np.int64)
    return graph.node("ReduceSum", beyond, graph.constant(np.array([1], np.int64)), keepdims=1)
