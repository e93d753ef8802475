"""LightGBM's text files, read: a header, and trees as lines of `name=numbers`. Pure but for numpy.

Source of the form: LightGBM src/boosting/gbdt_model_text.cpp and src/io/tree.cpp.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError

CATEGORICAL, DEFAULT_LEFT = 1, 2  # bits of decision_type; the two above them are the kind of missing values
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2
MAX_COLUMNS = 1_000_000


class TextModel(NamedTuple):
    """`classes` is how many trees each iteration has; `objective` as it stands there: `binary sigmoid:1`, or ""."""

    classes: int
    columns: int
    objective: str
    averages: bool
    names: tuple[str, ...]
    ranges: tuple[str, ...]  # of each column: `[low:high]`, its categories `3:1:0`, or `none`
    trees: tuple["TextTree", ...]


class TextTree(NamedTuple):
    """Children are nodes from 0 up, or leaves: ~leaf. Of a tree that is one leaf, only leaf_value and constants."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    decision: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf_value: NDArray[np.float64]
    sets: tuple[tuple[int, ...], ...]  # by the number that is a categorical split's threshold
    is_linear: bool
    constants: NDArray[np.float64]
    linear: tuple[tuple[tuple[int, float], ...], ...]  # of each leaf: columns and their coefficients


def read(text: str) -> TextModel:
    """Raises RefusedError where the text is damaged."""
    head, *blocks = text.split("\nTree=")
    try:
        header = _lines(head)
        trees = tuple(_tree(_lines(block.partition("\nend of trees")[0])) for block in blocks)
        columns = int(header["max_feature_idx"]) + 1
        if not 0 < columns <= MAX_COLUMNS:
            raise RefusedError(f"the file says it has {columns} columns: it is damaged")
        if "end of trees" not in text:
            raise RefusedError("the LightGBM file has no 'end of trees': it is cut off")
        return TextModel(
            classes=int(header["num_tree_per_iteration"]),
            columns=columns,
            objective=header.get("objective", ""),
            averages="average_output" in header,
            names=tuple(header.get("feature_names", "").split()),
            ranges=tuple(header.get("feature_infos", "").split(" ")),
            trees=trees,
        )
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise RefusedError(f"the LightGBM file is damaged: {type(error).__name__}: {error}") from None


def _lines(block: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in block.splitlines())}


def _tree(lines: dict[str, str]) -> TextTree:
    leaves, linear = int(lines["num_leaves"]), lines.get("is_linear") == "1"
    floats = {
        name: np.array(lines.get(name, "").split(), np.float64) for name in ("threshold", "leaf_value", "leaf_const")
    }
    whole = {
        name: np.array(lines.get(name, "").split(), np.int64)
        for name in ("split_feature", "decision_type", "left_child", "right_child", "cat_boundaries", "cat_threshold")
    }
    nodes = leaves - 1
    wrong = [
        name
        for name, array in (*whole.items(), *floats.items())
        if name in ("split_feature", "threshold", "decision_type", "left_child", "right_child") and len(array) != nodes
    ]
    if leaves < 1 or len(floats["leaf_value"]) != leaves or (nodes and wrong):
        raise ValueError(f"a tree of {leaves} leaves has other numbers of {', '.join(wrong) or 'leaf values'}")
    return TextTree(
        feature=whole["split_feature"],
        threshold=floats["threshold"],
        decision=whole["decision_type"],
        left=whole["left_child"],
        right=whole["right_child"],
        leaf_value=floats["leaf_value"],
        sets=_sets(whole["cat_boundaries"], whole["cat_threshold"]),
        is_linear=linear,
        constants=floats["leaf_const"],
        linear=_linear(lines, leaves) if linear else (),
    )


def _sets(boundaries: NDArray[np.int64], words: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """Bit sets of 32-bit words, from one boundary to the next."""
    sets = []
    for start, stop in pairwise(boundaries):
        part = words[start:stop]
        sets.append(tuple(32 * at + bit for at, word in enumerate(part) for bit in range(32) if int(word) >> bit & 1))
    return tuple(sets)


def _linear(lines: dict[str, str], leaves: int) -> tuple[tuple[tuple[int, float], ...], ...]:
    counts = [int(word) for word in lines["num_features"].split()]
    features, coefficients = lines["leaf_features"].split(), lines["leaf_coeff"].split()
    if len(counts) != leaves or len(features) != sum(counts) or len(coefficients) != sum(counts):
        raise ValueError("the linear leaves are not as many as the file says")
    terms = [(int(column), float(number)) for column, number in zip(features, coefficients, strict=True)]
    ends = np.cumsum([0, *counts])
    return tuple(tuple(terms[start:stop]) for start, stop in pairwise(ends))
