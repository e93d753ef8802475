"""Spark's columns as an ONNX graph in double: what each column is, which rows Spark would raise an error for, and what
made rows must hold to reach all of it.

In the process of a conversion alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from converters.column_graph import ColumnGraph
from converters.converter import Array, Feed
from converters.rows import TEXTS
from converters.table_rows import rows_around

ML_OPSET = 5  # whose trees compute in double
MAX_WIDTH = 100_000


class Origin(NamedTuple):
    """Where a number of a vector comes from: element `at` of the column, times `factor`, plus `offset`."""

    column: str
    at: int = 0
    factor: float = 1.0
    offset: float = 0.0


class Value(NamedTuple):
    """A column of Spark's: `name` in the graph, [rows, width]. `origins` of its elements, None where they are mixed."""

    name: str
    width: int = 1
    is_text: bool = False
    is_vector: bool = False
    origins: tuple[Origin | None, ...] = (None,)


class Input:
    """A column that the model takes. `marks` are numbers worth trying, by element; `closed`: no others than the marks
    are taken; `missing`: NaN is; `low` and `high` bound what is."""

    def __init__(self, name: str, *, width: int, is_text: bool, is_vector: bool) -> None:
        self.name, self.width, self.is_text, self.is_vector = name, width, is_text, is_vector
        self.labels: list[str] = []
        self.marks: dict[int, set[float]] = {}
        self.closed = False
        self.missing = True
        self.low, self.high = -np.inf, np.inf
        self.counts = False  # whole numbers from zero on

    def rows(self, count: int, random: np.random.Generator) -> Array:
        """`count` rows of [width]."""
        if self.is_text:
            known = self.labels or ["a"]
            made = np.empty((count, 1), object)
            made[:, 0] = random.choice(np.array(known, object), count)
            if not self.closed:
                other = random.random(count) < 0.1
                made[other, 0] = random.choice(np.array([text for text in TEXTS if text], object), int(other.sum()))
            return made
        if self.counts:
            counted: Array = random.integers(0, 2 if self.high == 1 else 9, (count, self.width)).astype(np.float64)
            return counted
        if self.closed:
            columns = [random.choice(sorted(self.marks.get(at, {0.0})), count) for at in range(self.width)]
            return np.stack(columns, axis=1).astype(np.float64)
        made = rows_around(count, random, self.width, np.float64, thresholds=self.marks, missing=self.missing)
        return np.clip(made, self.low, self.high)


class SparkGraph:
    """The graph being built, column by column."""

    def __init__(self, matrix: Sequence[str]) -> None:
        """`matrix`: columns of numbers that come as one input, in this order; none: each is an input."""
        self.g = ColumnGraph("spark/", ml_opset=ML_OPSET)  # no column is called so
        self.inputs: dict[str, Input] = {}
        self.values: dict[str, Value] = {}
        self.matrix = tuple(matrix)
        self._wrong: list[str] = []  # truth values, [rows, 1]
        self._whole = self.g.column("input", "FP64", len(matrix)) if matrix else ""

    def take(self, column: str, *, width: int = 1, is_text: bool = False, is_vector: bool = False) -> Value:
        """An input of the model's."""
        if not 0 < width <= MAX_WIDTH:
            raise RefusedError(f"column '{column[:60]}' would have {width} elements: 1 to {MAX_WIDTH} are taken")
        if column in self.matrix:
            at = self.g.value([self.matrix.index(column)], "INT64")
            name = self.g.node("Gather", self._whole, at, axis=1)
        else:
            name = self.g.column(column, "BYTES" if is_text else "FP64", width)
        self.inputs[column] = Input(column, width=width, is_text=is_text, is_vector=is_vector)
        origins = tuple(Origin(column, at) for at in range(width))
        self.values[column] = Value(name, width, is_text, is_vector, origins)
        return self.values[column]

    def mark(self, value: Value, at: int, numbers: Sequence[float]) -> None:
        """That these numbers of element `at` are worth trying, wherever it comes from."""
        origin = value.origins[at]
        if origin is None or not origin.factor:
            return
        marks = self.inputs[origin.column].marks.setdefault(origin.at, set())
        marks.update(float((number - origin.offset) / origin.factor) for number in list(numbers)[:2000])

    def sources(self, value: Value) -> list[Input]:
        """The inputs whose elements are the value's own."""
        return [self.inputs[name] for name in dict.fromkeys(o.column for o in value.origins if o is not None)]

    def wrong_where(self, truth: str) -> None:
        """Rows for which Spark raises an error: [rows, 1]. All outputs are NaN there."""
        self._wrong.append(truth)

    def wrong_where_any(self, truths: str) -> None:
        """The same of [rows, n]: where one of them is."""
        ones = self.g.to(truths, "FP32")
        self.wrong_where(
            self.g.node(
                "Greater", self.g.node("ReduceMax", ones, self.g.value([1], "INT64")), self.g.value(0.5, "FP32")
            )
        )

    def give(self, column: str, value: Value) -> None:
        """Gives the column as an output: NaN, or an empty text, for rows that Spark does not take."""
        g, name = self.g, value.name
        for wrong in self._wrong:
            nothing = g.value("", "BYTES") if value.is_text else g.value(np.nan)
            name = g.node("Where", wrong, nothing, name)
        dtype = "BYTES" if value.is_text else "FP64"
        if value.is_vector:
            g.give(column, name, dtype, value.width)
        else:
            g.give(column, g.shaped(name, [-1]), dtype)

    def rows(self, count: int, random: np.random.Generator) -> Feed:
        made = {name: one.rows(count, random) for name, one in self.inputs.items()}
        if not self.matrix:
            return made
        return {"input": np.concatenate([made[name] for name in self.matrix], axis=1)}

    def columns_of(self, feed: Feed) -> dict[str, Array]:
        """Spark's columns of a feed, each [rows, width]."""
        if not self.matrix:
            return dict(feed)
        return {name: feed["input"][:, at : at + 1] for at, name in enumerate(self.matrix)}


def scaled(value: Value, name: str, factors: Array, offsets: Array) -> Value:
    """A vector whose elements are the value's times a factor plus an offset, under another name in the graph."""
    origins = [
        None if o is None else Origin(o.column, o.at, o.factor * float(f), o.offset * float(f) + float(b))
        for o, f, b in zip(value.origins, factors, offsets, strict=True)
    ]
    return Value(name, value.width, is_vector=True, origins=tuple(origins))


def mixed(name: str, width: int, *, is_vector: bool = True, is_text: bool = False) -> Value:
    """A value whose elements do not come from one each."""
    return Value(name, width, is_text, is_vector, (None,) * width)
