"""Decision trees as ONNX: one TreeEnsemble operator (ai.onnx.ml 5), and the columns that its splits look at.

In the process of a conversion alone. A split compares one column with one number. What libraries ask beside that, such
as whether a category is in a set, becomes a column of its own, computed in front of the trees from a table: exact, and
as small as the sets are many, where chains of comparisons would copy the subtree below for each category.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError
from converters.graph import Graph

MAX_TABLE_BYTES = 256 * 2**20
MODES = {"<=": 0, "<": 1, ">=": 2, ">": 3}  # of nodes_modes, as ai.onnx.ml 5 numbers them
_BRANCHES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT")  # of the same numbers, as ai.onnx.ml 3 names them
ZERO = float(np.float32(1e-35))  # numbers up to this are zero to LightGBM: its kZeroThreshold

Table = NDArray[np.uint8]
SetKey = tuple[int, bytes, int]  # the feature, 0 or 1 for each category, 0 or 1 for a missing value


class Split(NamedTuple):
    """`column` `mode` `value` leads to node `true`, else to node `false`; NaN as `missing_true` says."""

    column: int
    mode: str
    value: float
    true: int
    false: int
    missing_true: bool


Node = Split | float  # a float is a leaf


class Columns:
    """The columns that splits look at: the input's own, and those derived from it.

    A category's column is 1 where the category is in the set. `truncates` says how a category that is no whole number
    becomes one: toward zero, else downwards.
    """

    def __init__(self, count: int, *, truncates: bool) -> None:
        self.count = count
        self.truncates = truncates
        self._zero_missing: dict[int, int] = {}
        self._sets: dict[SetKey, int] = {}
        self._next = count

    def own(self, feature: int) -> int:
        if not 0 <= feature < self.count:
            raise RefusedError(f"a tree looks at column {feature} of {self.count}: the file is damaged")
        return feature

    def zero_missing(self, feature: int) -> int:
        """The feature with zeros (up to LightGBM's ZERO) made missing."""
        if self.own(feature) not in self._zero_missing:
            self._zero_missing[feature] = self._new()
        return self._zero_missing[feature]

    def in_set(self, feature: int, categories: Sequence[int], *, missing: bool) -> int:
        """1 where the feature is one of `categories`, 0 for all other numbers, `missing` where there is none."""
        if len(categories) and not 0 <= min(categories) <= max(categories) < 2**24:
            raise RefusedError("a tree knows a category that is negative or beyond 2**24: the file is damaged")
        members = np.zeros(max(categories, default=-1) + 1, np.uint8)
        members[list(categories)] = 1
        key = (self.own(feature), members.tobytes(), int(missing))
        if key not in self._sets:
            self._sets[key] = self._new()
        return self._sets[key]

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def write(self, graph: Graph, x: str, dtype: Any) -> str:
        """The value with all columns. `x` is of `dtype` and has the input's columns."""
        parts: list[tuple[int, str]] = []
        for feature, column in self._zero_missing.items():
            value = _column(graph, x, feature)
            zero = graph.node("LessOrEqual", graph.node("Abs", value), graph.constant(np.array(ZERO, dtype)))
            parts.append((column, graph.node("Where", zero, graph.constant(np.array(np.nan, dtype)), value)))
        order = [column for column, _ in parts]
        values = [value for _, value in parts]
        for feature in sorted({key[0] for key in self._sets}):
            keys = [key for key in self._sets if key[0] == feature]
            order += [self._sets[key] for key in keys]
            looked_up = graph.node("Gather", graph.constant(_table(keys)), self._code(graph, x, keys, dtype), axis=0)
            values.append(graph.cast(looked_up, dtype))
        if not values:
            return x
        derived = graph.node("Concat", *values, axis=1)
        places = np.argsort(np.array(order, np.int64), kind="stable").astype(np.int64)
        return graph.node("Concat", x, graph.node("Gather", derived, graph.constant(places), axis=1), axis=1)

    def _code(self, graph: Graph, x: str, keys: list[SetKey], dtype: Any) -> str:
        """The table's row of each value: the category, then one row for others, then one for missing values."""
        size = max(len(key[1]) for key in keys)
        value = graph.node("Squeeze", _column(graph, x, keys[0][0]), graph.constant(np.array([1], np.int64)))
        one, zero, end = (graph.constant(np.array(number, dtype)) for number in (1, 0, size))
        if self.truncates:
            whole = graph.node("Sub", value, graph.node("Mod", value, one, fmod=1))
        else:
            whole = graph.node("Floor", value)
        known = graph.node("And", graph.node("GreaterOrEqual", whole, zero), graph.node("Less", whole, end))
        row = graph.node("Where", known, whole, end)
        missing = graph.constant(np.array(size + 1, dtype))
        return graph.cast(graph.node("Where", graph.node("IsNaN", value), missing, row), np.int64)


def _column(graph: Graph, x: str, feature: int) -> str:
    return graph.node("Gather", x, graph.constant(np.array([feature], np.int64)), axis=1)


def _table(keys: list[SetKey]) -> Table:
    size = max(len(key[1]) for key in keys)
    if (size + 2) * len(keys) > MAX_TABLE_BYTES:
        raise RefusedError(f"{len(keys)} splits over {size} categories of one column are more than a table can hold")
    table = np.zeros((size + 2, len(keys)), np.uint8)
    for column, (_, members, missing) in enumerate(keys):
        table[: len(members), column] = np.frombuffer(members, np.uint8)
        table[size + 1, column] = missing
    return table


class Ensemble:
    """Trees, each of which adds its leaf's weight to one target. Sums are of the columns' dtype."""

    def __init__(self, targets: int) -> None:
        self.bias = np.zeros(targets, np.float64)  # of trees that are a leaf alone
        self._features: list[int] = []
        self._modes: list[int] = []
        self._splits: list[float] = []
        self._missing: list[int] = []
        self._children: tuple[list[int], list[int]] = ([], [])
        self._are_leaves: tuple[list[int], list[int]] = ([], [])
        self._weights: list[float] = []
        self._targets: list[int] = []
        self._roots: list[int] = []

    def add(self, nodes: Sequence[Node], target: int) -> None:
        """One tree, whose root is node 0. Raises RefusedError where the nodes are no tree."""
        if not nodes or not 0 <= target < len(self.bias):
            raise RefusedError("a tree of the model is empty or of no class: the file is damaged")
        root = nodes[0]
        if not isinstance(root, Split):
            self.bias[target] += root
            return
        self._roots.append(len(self._features))
        self._split(root)
        waiting = [(root, len(self._features) - 1)]
        seen = 1
        while waiting:
            split, at = waiting.pop()
            for side, child in enumerate((split.true, split.false)):
                seen += 1
                if not 0 < child < len(nodes) or seen > len(nodes):
                    raise RefusedError("the nodes of a tree are no tree: the file is damaged")
                node = nodes[child]
                self._are_leaves[side][at] = int(not isinstance(node, Split))
                if isinstance(node, Split):
                    self._children[side][at] = len(self._features)
                    self._split(node)
                    waiting.append((node, len(self._features) - 1))
                else:
                    self._children[side][at] = len(self._weights)
                    self._weights.append(node)
                    self._targets.append(target)

    def _split(self, split: Split) -> None:
        self._features.append(split.column)
        self._modes.append(MODES[split.mode])
        self._splits.append(split.value)
        self._missing.append(int(split.missing_true))
        for side in (0, 1):
            self._children[side].append(0)
            self._are_leaves[side].append(0)

    def write(self, graph: Graph, columns: str, dtype: Any) -> str:
        """[rows, targets] of the sums, the constant trees among them."""
        from onnx import numpy_helper

        if not self._roots:  # only constants: the rows still count
            one = graph.node("Gather", columns, graph.constant(np.array([0], np.int64)), axis=1)
            zeros = graph.node("Expand", graph.constant(np.array(0, dtype)), graph.node("Shape", one))
            return graph.node("Add", zeros, graph.constant(self.bias.astype(dtype).reshape(1, -1)))
        if graph.ml_opset < 5:
            return self._with_bias(graph, self._regressor(graph, columns, dtype), dtype)
        summed = graph.node(
            "TreeEnsemble",
            columns,
            domain="ai.onnx.ml",
            n_targets=len(self.bias),
            aggregate_function=1,
            post_transform=0,
            tree_roots=self._roots,
            nodes_featureids=self._features,
            nodes_modes=numpy_helper.from_array(np.array(self._modes, np.uint8), "modes"),
            nodes_splits=numpy_helper.from_array(np.array(self._splits, dtype), "splits"),
            nodes_missing_value_tracks_true=self._missing,
            nodes_truenodeids=self._children[0],
            nodes_falsenodeids=self._children[1],
            nodes_trueleafs=self._are_leaves[0],
            nodes_falseleafs=self._are_leaves[1],
            leaf_targetids=self._targets,
            leaf_weights=numpy_helper.from_array(np.array(self._weights, dtype), "weights"),
        )
        return self._with_bias(graph, summed, dtype)

    def _with_bias(self, graph: Graph, summed: str, dtype: Any) -> str:
        if not self.bias.any():
            return summed
        return graph.node("Add", summed, graph.constant(self.bias.astype(dtype).reshape(1, -1)))

    def _regressor(self, graph: Graph, columns: str, dtype: Any) -> str:
        """The trees in the form of ai.onnx.ml 3, for graphs that have other trees of that form."""
        splits, leaves = len(self._features), len(self._weights)
        children = [
            np.array(side) + splits * np.array(are_leaves)
            for side, are_leaves in zip(self._children, self._are_leaves, strict=True)
        ]
        trees = np.zeros(splits + leaves, np.int64)
        trees[:splits] = np.searchsorted(self._roots, np.arange(splits), side="right") - 1
        for side in children:
            trees[side] = trees[:splits]
        order = np.argsort(trees, kind="stable")
        nothing = np.zeros(leaves, np.int64)
        words = [*(_BRANCHES[mode] for mode in self._modes), *["LEAF"] * leaves]

        def ordered(of_splits: Any) -> list[int]:
            return [int(item) for item in np.r_[of_splits, nothing][order]]

        values = np.r_[self._splits, nothing][order].astype(dtype)
        summed = graph.node(
            "TreeEnsembleRegressor",
            columns,
            domain="ai.onnx.ml",
            n_targets=len(self.bias),
            nodes_treeids=trees[order].tolist(),
            nodes_nodeids=order.tolist(),
            nodes_featureids=ordered(self._features),
            nodes_modes=[words[at] for at in order],
            nodes_truenodeids=ordered(children[0]),
            nodes_falsenodeids=ordered(children[1]),
            nodes_missing_value_tracks_true=ordered(self._missing),
            target_treeids=trees[splits:].tolist(),
            target_nodeids=list(range(splits, splits + leaves)),
            target_ids=[int(target) for target in self._targets],
            **_numbers("nodes_values", values, dtype),
            **_numbers("target_weights", np.array(self._weights, dtype), dtype),
        )
        return graph.cast(summed, dtype)  # its output is of single precision, whatever its input


def _numbers(name: str, values: NDArray[Any], dtype: Any) -> dict[str, Any]:
    """An attribute of single precision is a list, one of double a tensor."""
    from onnx import numpy_helper

    if np.dtype(dtype) == np.float32:
        return {name: values.tolist()}
    return {f"{name}_as_tensor": numpy_helper.from_array(values, name)}
