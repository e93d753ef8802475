"""Spark's stages over words as ONNX: what is left out, joined, counted and hashed. A text is cut before the graph, in
the worker, by the rule that the manifest then has (appliance/core/words.py). What each stage does: its class of
org.apache.spark.ml.feature, of the same name.

In the process of a conversion alone. A stage is Spark's own object, loaded.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.manifest import WordRule
from appliance.core.words import Words, lowered
from converters.converter import Array
from converters.graph import MICROSOFT
from converters.spark_columns import inputs_of, outputs_of
from converters.spark_graph import Bag, Origin, SparkGraph, Value, WordList, mixed

_SEED = 42  # HashingTF's
_SPARK_3 = 2  # HashingTF.SPARK_3_MURMUR3_HASH
# Locales whose small letters are others than those of the rest.
_OWN_LETTERS = ("tr", "az", "lt")


def rule_of(kind: str, stage: Any) -> WordRule:
    """Of a Tokenizer or RegexTokenizer."""
    if kind == "Tokenizer":
        return WordRule(pattern=r"\s", shortest=0)
    rule = WordRule(
        pattern=str(stage.getPattern()), gaps=bool(stage.getGaps()), lower=bool(stage.getToLowercase()),
        shortest=int(stage.getMinTokenLength()),
    )  # fmt: skip
    Words(rule)  # raises for a pattern that is not taken
    return rule


def _cut(graph: SparkGraph, stage: Any) -> None:
    """The words are the graph's input."""
    graph.words[outputs_of(stage)[0]] = graph.words[inputs_of(stage)[0]]


def _stop_words(graph: SparkGraph, stage: Any) -> None:
    g, stops = graph.g, [str(word) for word in stage.getStopWords()]
    for column, output in zip(inputs_of(stage), outputs_of(stage), strict=True):
        value = graph.words[column]
        if not stage.getCaseSensitive():
            if not value.source.rule.lower:
                raise RefusedError(
                    "StopWordsRemover lowers the words to compare them, which no operator does as Java: make it "
                    "caseSensitive=True, or have the tokenizer lower the text"
                )
            if str(stage.getLocale()).partition("_")[0] in _OWN_LETTERS:
                raise RefusedError(f"StopWordsRemover has the locale {stage.getLocale()}: set another, as en_US")
            stops = [lowered(word) for word in stops]
        graph.words[output] = value
        if known := sorted(set(stops)):
            value.source.vocabulary.update(known[:200])
            among = g.node(
                "LabelEncoder", value.name, domain="ai.onnx.ml", keys_strings=known,
                values_int64s=[0] * len(known), default_int64=1,
            )  # fmt: skip
            graph.words[output] = value._replace(present=g.node("Mul", value.present, among), has_holes=True)


def _closed(graph: SparkGraph, value: WordList) -> WordList:
    """With the words that are left beside each other, at the left."""
    if not value.has_holes:
        return value
    g = graph.g
    width = g.node("Shape", value.name, start=1, end=2)
    places = _places(graph, width)
    absent = g.node("Sub", g.value(1, "INT64"), value.present)
    order = g.node("Add", places, g.node("Mul", absent, width))
    taken = g.second("TopK", order, width, axis=1, largest=0, sorted=1)
    name, present = (g.node("GatherElements", one, taken, axis=1) for one in (value.name, value.present))
    return value._replace(name=name, present=present, has_holes=False)


def _places(graph: SparkGraph, width: str) -> str:
    g = graph.g
    scalar = g.node("Squeeze", width)
    return g.node("Range", g.value(0, "INT64"), scalar, g.value(1, "INT64"))


def _n_grams(graph: SparkGraph, stage: Any) -> None:
    g, n, value = graph.g, int(stage.getN()), _closed(graph, graph.words[inputs_of(stage)[0]])
    width = g.node("Shape", value.name, start=1, end=2)
    more = g.value([0, 0, 0, n - 1], "INT64")
    present = g.node("Pad", value.present, more)
    rows = g.node("Shape", value.name, start=0, end=1)
    nothing = g.node("Expand", g.value([[""]], "BYTES"), g.node("Concat", rows, g.value([n - 1], "INT64"), axis=0))
    filled = value.name if n == 1 else g.node("Concat", value.name, nothing, axis=1)

    def shifted(name: str, by: int) -> str:
        start, axis = g.value([by], "INT64"), g.value([1], "INT64")
        return g.node("Slice", name, start, g.node("Add", start, width), axis)

    joined = shifted(filled, 0)
    for at in range(1, n):
        joined = g.node("StringConcat", g.node("StringConcat", joined, g.value(" ", "BYTES")), shifted(filled, at))
    graph.words[outputs_of(stage)[0]] = value._replace(
        name=joined, present=shifted(present, n - 1), joined=value.joined * n
    )


def _counted(graph: SparkGraph, value: WordList, slots: str, width: int) -> str:
    """[rows, width]: how often each slot is there."""
    g = graph.g
    shape = g.node("Concat", g.node("Shape", slots, start=0, end=1), g.value([width], "INT64"), axis=0)
    zeros = g.node("Expand", g.value(0.0), shape)
    return g.node("ScatterElements", zeros, slots, g.to(value.present, "FP64"), axis=1, reduction="add")


def _put(
    graph: SparkGraph, stage: Any, value: WordList, name: str, width: int, word: Callable[[int], str], bag: Bag | None
) -> None:
    """Makes the counts the stage's column. `word`: one that counts in that slot, empty where none is known."""
    first = value.source.add(width, word)
    origins = tuple(Origin(value.source.name, first + at) for at in range(width))
    graph.values[outputs_of(stage)[0]] = Value(name, width, is_vector=True, origins=origins, bag=bag)


def _hashing(graph: SparkGraph, stage: Any) -> None:
    g, value, width = graph.g, graph.words[inputs_of(stage)[0]], int(stage.getNumFeatures())
    if int(stage._java_obj.hashFuncVersion()) != _SPARK_3:
        raise RefusedError(
            "HashingTF is of Spark 2, which hashed otherwise: fit and save the pipeline with Spark 3 or 4"
        )
    numbers = g.node("MurmurHash3", value.name, domain=MICROSOFT, seed=_SEED, positive=0)  # of UTF-8, as Spark's
    slots = g.node("Mod", g.to(numbers, "INT64"), g.value(width, "INT64"))
    counts = _counted(graph, value, slots, width)
    bag: Bag | None = Bag(slots, g.to(value.present, "FP64"))
    if stage.getBinary():
        counts, bag = g.to(g.node("Greater", counts, g.value(0.0)), "FP64"), None
    word = WordOfSlot(width) if value.joined == 1 else lambda _: ""
    _put(graph, stage, value, counts, width, word, bag)


def _count_vectorizer(graph: SparkGraph, stage: Any) -> None:
    g, value, known = graph.g, graph.words[inputs_of(stage)[0]], [str(word) for word in stage.vocabulary]
    width, least = len(known), float(stage.getMinTF())
    if not known:
        raise RefusedError("CountVectorizer has no words: it was fitted on nothing")
    slots = _index(graph, value, known)
    bag: Bag | None = Bag(slots, g.to(value.present, "FP64"))
    counts = g.node(
        "Slice", _counted(graph, value, slots, width + 1), g.value([0], "INT64"), g.value([width], "INT64"),
        g.value([1], "INT64"),
    )  # fmt: skip
    if stage.getBinary() or least != 1:
        bag = None
        limit = g.value(max(least, 1.0))
        if least < 1:  # a share of all words, those that are not known among them
            total = g.node("ReduceSum", value.present, g.value([1], "INT64"), keepdims=1)
            limit = g.node("Mul", g.to(total, "FP64"), g.value(least))
        kept = g.node("And", g.node("GreaterOrEqual", counts, limit), g.node("Greater", counts, g.value(0.0)))
        counts = g.node("Where", kept, g.value(1.0) if stage.getBinary() else counts, g.value(0.0))
    value.source.vocabulary.update(known[:5000])
    _put(graph, stage, value, counts, width, known.__getitem__, bag)


def _index(graph: SparkGraph, value: WordList, known: list[str]) -> str:
    """The place of each word, after the last for one that is not known."""
    return graph.g.node(
        "LabelEncoder", value.name, domain="ai.onnx.ml", keys_strings=known, values_int64s=list(range(len(known))),
        default_int64=len(known),
    )  # fmt: skip


def _word_vectors(graph: SparkGraph, stage: Any) -> None:
    """The mean of the words' vectors, those that are not known being zeros."""
    g, value = graph.g, graph.words[inputs_of(stage)[0]]
    rows = stage.getVectors().collect()
    known, table = [str(row.word) for row in rows], np.array([row.vector.toArray() for row in rows], np.float64)
    table = np.concatenate([table, np.zeros((1, table.shape[1]))])
    found = g.node("Gather", g.value(table), _index(graph, value, known), axis=0)
    axis, present = g.value([1], "INT64"), g.to(value.present, "FP64")
    total = g.node(
        "ReduceSum", g.node("Mul", found, g.node("Unsqueeze", present, g.value([2], "INT64"))), axis, keepdims=0
    )
    count = g.node("Max", g.node("ReduceSum", present, axis, keepdims=1), g.value(1.0))
    value.source.vocabulary.update(known[:5000])
    graph.values[outputs_of(stage)[0]] = mixed(g.node("Mul", total, g.node("Div", g.value(1.0), count)), table.shape[1])


class WordOfSlot:
    """A word for a slot of HashingTF, of all words of four letters; empty where none of them is hashed to it."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._words: dict[int, str] = {}

    def __call__(self, slot: int) -> str:
        if not self._words:
            letters = np.array(np.meshgrid(*[np.arange(97, 123, dtype=np.uint8)] * 4)).reshape(4, -1).T.copy()
            slots = _murmur_of_four_bytes(letters.view("<u4").ravel()).astype(np.int64) % self._width
            self._words = dict(zip(slots.tolist(), (word.tobytes().decode() for word in letters), strict=True))
        return self._words.get(slot, "")


def _murmur_of_four_bytes(words: Array) -> Array:
    """MurmurHash3_x86_32 of each number's bytes."""

    def turned(numbers: Array, by: int) -> Array:
        return np.left_shift(numbers, np.uint32(by)) | np.right_shift(numbers, np.uint32(32 - by))

    with np.errstate(over="ignore"):
        block = turned(words * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        value: Array = turned(block ^ np.uint32(_SEED), 13) * np.uint32(5) + np.uint32(0xE6546B64)
        value = value ^ np.uint32(4)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            value = (value ^ np.right_shift(value, np.uint32(shift))) * np.uint32(factor)
        return value.view(np.int32)


COUNTED = ("HashingTF", "CountVectorizerModel", "Word2VecModel")  # those that make numbers of words
WORDS: dict[str, Callable[[SparkGraph, Any], None]] = {
    "Tokenizer": _cut, "RegexTokenizer": _cut, "StopWordsRemover": _stop_words, "NGram": _n_grams,
    "HashingTF": _hashing, "CountVectorizerModel": _count_vectorizer, "Word2VecModel": _word_vectors,
}  # fmt: skip
