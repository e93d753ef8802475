"""Spark's trees as ONNX: splits read from the model's data, leaves as weights or as rows of a table of class counts.

In the process of a conversion alone. Source: org.apache.spark.ml.tree (Node, Split, treeModels: NodeData).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Array
from converters.spark_graph import SparkGraph, Value
from converters.trees import Columns, Ensemble, Node, Split

_DAMAGED = "the nodes of a tree are no tree: the model's data are damaged"


class Leaf(NamedTuple):
    prediction: float
    counts: tuple[float, ...]


class Tree(NamedTuple):
    """A split or a leaf at each place; the first is the root. Splits are as the data have them."""

    nodes: list[Any]


def trees_of(rows: Sequence[Any]) -> list[Tree]:
    """Of the rows of a model's data, in the order of the trees."""
    by_tree: dict[int, list[Any]] = {}
    for row in rows:
        known = row.asDict()
        node = known.get("nodeData", row)
        by_tree.setdefault(int(known.get("treeID", 0)), []).append(node)
    trees = []
    for _, nodes in sorted(by_tree.items()):
        ordered = sorted(nodes, key=lambda node: node["id"])
        if [node["id"] for node in ordered] != list(range(len(ordered))):
            raise RefusedError(_DAMAGED)
        trees.append(Tree(ordered))
    if not trees:
        raise RefusedError("the model has no trees: its data are damaged")
    return trees


class Forest:
    """All trees over one vector, whose columns they share."""

    def __init__(self, graph: SparkGraph, features: Value, trees: Sequence[Tree]) -> None:
        self._graph, self._features, self._trees = graph, features, trees
        self._columns = Columns(features.width, truncates=False)
        self._categorical: dict[int, int] = {}

    def weighted(self, weights: Sequence[float]) -> str:
        """[rows, 1]: the sum of the trees' predictions, each times its weight."""
        ensemble = Ensemble(1)
        for tree, weight in zip(self._trees, weights, strict=True):
            ensemble.add([self._node(node, node["prediction"] * weight) for node in tree.nodes], 0)
        return self._written(ensemble)

    def shares(self, *, normalised: bool) -> tuple[str, int]:
        """[rows, classes] and how many these are: the sum over trees of their leaf's class counts, as shares of each
        leaf where `normalised`."""
        ensemble = Ensemble(len(self._trees))
        table: list[Array] = []
        for index, tree in enumerate(self._trees):
            nodes: list[Node] = []
            for node in tree.nodes:
                nodes.append(self._node(node, float(len(table))))
                if node["leftChild"] < 0:
                    counts = np.asarray(node["impurityStats"], np.float64)
                    total = counts.sum()
                    table.append(counts / total if normalised and total else counts)
            ensemble.add(nodes, index)
        if len({len(counts) for counts in table}) != 1:
            raise RefusedError(_DAMAGED)
        g = self._graph.g
        leaves = g.to(self._written(ensemble), "INT64")
        found = g.node("Gather", g.value(np.array(table)), leaves, axis=0)
        return g.node("ReduceSum", found, g.value([1], "INT64"), keepdims=0), len(table[0])

    def _node(self, node: Any, leaf: float) -> Node:
        left, right, split = int(node["leftChild"]), int(node["rightChild"]), node["split"]
        if left < 0:
            return leaf
        feature, numbers, categories = (
            int(split["featureIndex"]),
            split["leftCategoriesOrThreshold"],
            split["numCategories"],
        )
        if not 0 <= feature < self._features.width:
            raise RefusedError(f"a tree looks at element {feature} of {self._features.width}: the data are damaged")
        if categories < 0:
            self._graph.mark(self._features, feature, numbers[:1])
            return Split(self._columns.own(feature), "<=", float(numbers[0]), left, right, False)
        self._categorical[feature] = max(self._categorical.get(feature, 0), categories)
        self._graph.mark(self._features, feature, [float(at) for at in range(min(categories, 200))])
        chosen = {int(number) for number in numbers}
        # What is no category goes right where the left ones are kept, left where those of the right are.
        if len(numbers) <= categories // 2:
            return Split(self._columns.in_set(feature, sorted(chosen), missing=False), ">", 0.5, left, right, False)
        others = sorted(set(range(categories)) - chosen)
        return Split(self._columns.in_set(feature, others, missing=False), ">", 0.5, right, left, False)

    def _written(self, ensemble: Ensemble) -> str:
        g, name = self._graph.g, self._features.name
        if self._categorical:  # a category is a whole number: others are none
            is_category = np.isin(np.arange(self._features.width), list(self._categorical))[None]
            whole = g.node("Equal", name, g.node("Floor", name))
            taken = g.node("Or", whole, g.node("Not", g.value(is_category, "BOOL")))
            name = g.node("Where", taken, name, g.value(-1.0))
        return ensemble.write(g, self._columns.write(g, name, np.float64), np.float64)
