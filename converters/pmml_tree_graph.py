"""PMML's trees as one TreeEnsemble of ONNX, in double, over numbers and what tests say of texts.

In the process of a conversion.
"""

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from appliance.core.errors import RefusedError
from converters.column_graph import ColumnGraph
from converters.pmml_input_graph import Inputs
from converters.pmml_model import Node, Tree
from converters.pmml_rows import shares_of, votes_of

MAX_NODES = 2_000_000


class TreeEnsemble:
    """The attributes of a TreeEnsembleRegressor, filled tree by tree."""

    def __init__(self, inputs: Inputs, classes: tuple[str, ...], *, votes: bool) -> None:
        self._inputs, self._classes, self._votes = inputs, classes, votes
        self._rows: list[tuple[int, int, int, str, float, int, int, int]] = []
        self._targets: list[tuple[int, int, int, float]] = []
        self._tree = -1
        self._next = 0

    def add(self, tree: Tree, weight: float) -> None:
        self._tree, self._next = self._tree + 1, 0
        self._node(tree, tree.root, weight)

    def _node(self, tree: Tree, node: Node, weight: float) -> int:
        """Its place. A node's children are asked in order, each test of each in turn: a chain of branches."""
        if not node.children:
            return self._leaf(node, weight)
        fields = {(test.field or test) for child in node.children for test in child.tests}
        if node.unknown == "default" and len(fields) > 1:
            raise RefusedError("a node with a default child whose children test several fields is not converted")
        after: int | None = None
        for index in reversed(range(len(node.children))):
            child = node.children[index]
            if any(test.operator == "never" for test in child.tests):
                continue
            inner = self._node(tree, child, weight)
            if not child.tests:
                after = inner
                continue
            if after is None:
                after = self._leaf(node if tree.last_prediction and node.score else None, weight)
            column, mode, value = self._inputs.place(child.tests)
            missing = int(node.unknown == "default" and index == node.default)
            branch = self._add(column, mode, value, inner, after, missing)
            after = self._where_known(node, child, branch, weight)
        return self._leaf(None, weight) if after is None else after

    def _where_known(self, node: Node, child: Node, known: int, weight: float) -> int:
        """Before the child's test: where its value is missing, nothing more is asked."""
        if node.unknown not in ("null", "last"):
            return known
        leaf = self._leaf(node if node.unknown == "last" and node.score else None, weight)
        return self._add(self._inputs.unknown(child.tests), "BRANCH_GTE", 0.5, leaf, known, 0)

    def _add(self, column: int, mode: str, value: float, true: int, false: int, missing: int) -> int:
        place, self._next = self._next, self._next + 1
        if len(self._rows) > MAX_NODES:
            raise RefusedError(f"the trees have more than {MAX_NODES} nodes, more than can be converted")
        self._rows.append((self._tree, place, column, mode, value, true, false, missing))
        return place

    def _leaf(self, node: Node | None, weight: float) -> int:
        place = self._add(0, "LEAF", 0.0, 0, 0, 0)
        if self._classes:
            shares = (votes_of if self._votes else shares_of)(node, self._classes)
            self._targets += [(self._tree, place, i, float(share) * weight) for i, share in enumerate(shares) if share]
        else:
            score = float(node.score) if node is not None else np.nan
            self._targets.append((self._tree, place, 0, score * weight))
        return place

    def node(self, g: ColumnGraph) -> str:
        # Branches come before what they lead to: the first node of a tree is its root.
        rows = sorted(self._rows, key=lambda row: (row[0], -row[1]))
        trees, places, columns, modes, values, true, false, missing = (list(part) for part in zip(*rows, strict=True))
        if not self._inputs.columns:
            raise RefusedError("the trees test nothing: the model is a constant")
        target_trees, target_places, targets, weights = (list(part) for part in zip(*self._targets, strict=True))
        attributes: dict[str, Any] = {
            "n_targets": max(1, len(self._classes)),
            "nodes_treeids": trees,
            "nodes_nodeids": places,
            "nodes_featureids": columns,
            "nodes_modes": modes,
            "nodes_values_as_tensor": _double(values, "values"),
            "nodes_truenodeids": true,
            "nodes_falsenodeids": false,
            "nodes_missing_value_tracks_true": missing,
            "target_treeids": target_trees,
            "target_nodeids": target_places,
            "target_ids": targets,
            "target_weights_as_tensor": _double(weights, "weights"),
        }
        # In double but for its last sum, which onnxruntime gives in single.
        single = g.node("TreeEnsembleRegressor", self._inputs.matrix(), domain="ai.onnx.ml", **attributes)
        return g.to(single, "FP64")


def _double(values: list[float], name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float64), name)
