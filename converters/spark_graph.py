"""Spark's columns as an ONNX graph in double: what each column is, which rows Spark would raise an error for, and what
made rows must hold to reach all of it.

In the process of a conversion alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.manifest import WordRule
from converters.column_graph import ColumnGraph
from converters.converter import Array, Feed
from converters.spark_inputs import Input, WordsInput

ML_OPSET = 5  # whose trees compute in double
OPSET = 20  # which joins texts
MAX_WIDTH = 100_000


class Origin(NamedTuple):
    """Where a number of a vector comes from: element `at` of the column, times `factor`, plus `offset`."""

    column: str
    at: int = 0
    factor: float = 1.0
    offset: float = 0.0


class Bag(NamedTuple):
    """A vector of counts that is zeros for the most part, by what is in it: each word's `slots` and `weights`, [rows,
    words]. A slot may be there more than once, and one beyond the vector stands for nothing."""

    slots: str
    weights: str


class Value(NamedTuple):
    """A column of Spark's: `name` in the graph, [rows, width]. `origins` of its elements, None where they are mixed.
    `bag`: the same otherwise, where there is one."""

    name: str
    width: int = 1
    is_text: bool = False
    is_vector: bool = False
    origins: tuple[Origin | None, ...] = (None,)
    bag: Bag | None = None


class WordList(NamedTuple):
    """A column of lists of words: `name`, [rows, words], and `present`, 1 where a word is one and 0 for filling. Words
    that are left out are not present and have kept their places where `has_holes`. `joined`: how many are one."""

    name: str
    present: str
    source: WordsInput
    has_holes: bool = False
    joined: int = 1


class SparkGraph:
    """The graph being built, column by column."""

    def __init__(self, matrix: Sequence[str]) -> None:
        """`matrix`: columns of numbers that come as one input, in this order; none: each is an input."""
        self.g = ColumnGraph("spark/", opset=OPSET, ml_opset=ML_OPSET)  # no column is called so
        self.inputs: dict[str, Input] = {}
        self.values: dict[str, Value] = {}
        self.words: dict[str, WordList] = {}
        self.categories: dict[str, int] = {}  # how many, of columns whose numbers stand for some
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

    def take_words(self, column: str, rule: WordRule) -> None:
        """A text of the model's that comes cut into words, by the names of words_of()."""
        source = self.inputs[column] = WordsInput(column, rule)
        names = words_of(column)
        self.words[column] = WordList(
            self.g.input(names[0], object, ["rows", "words"]),
            self.g.input(names[1], np.int64, ["rows", "words"]),
            source,
        )

    def mark(self, value: Value, at: int, numbers: Sequence[float]) -> None:
        """That these numbers of element `at` are worth trying, wherever it comes from."""
        origin = value.origins[at]
        if origin is None or not origin.factor:
            return
        marks = self.inputs[origin.column].marks.setdefault(origin.at, set())
        marks.update(float((number - origin.offset) / origin.factor) for number in list(numbers)[:2000])

    def reach(self, value: Value, places: Array) -> None:
        """That rows of texts are to have words which these elements count: of others nothing follows."""
        for at in places[:: max(1, len(places) // 1000)].tolist():
            origin = value.origins[at]
            if origin is not None and isinstance(source := self.inputs[origin.column], WordsInput):
                source.marks.setdefault(origin.at, set())

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


def words_of(column: str) -> tuple[str, str]:
    """The graph's inputs for the words of a text, and for which of them are there."""
    return f"{column}/words", f"{column}/present"


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
