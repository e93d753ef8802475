"""LightGBM's text files: gbdt, dart, rf and linear trees, categories, missing values, every objective it has.

The graph is written from the text, in double precision as LightGBM reckons. What a tree does: LightGBM
include/LightGBM/tree.h; what an objective does with the sum: src/objective/*, each ConvertOutput().
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from converters.converter import Conversion, Converter, Feed, Say, require
from converters.detected import Detected
from converters.options import Options

if TYPE_CHECKING:
    from converters.graph import Graph
    from converters.lightgbm_text import TextModel, TextTree
    from converters.trees import Columns, Node

IDENTITY = (
    "", "custom", "none", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg",
)  # fmt: skip
EXPONENTIAL = ("poisson", "gamma", "tweedie")
SIGMOID = ("binary", "multiclassova", "cross_entropy")
KNOWN = (*IDENTITY, *EXPONENTIAL, *SIGMOID, "regression", "multiclass", "cross_entropy_lambda")


class LightGBMConverter(Converter):
    name: ClassVar[str] = "lightgbm"
    extra: ClassVar[str] = "lightgbm"
    title: ClassVar[str] = "LightGBM"
    takes: ClassVar[str] = "text files: gbdt, dart, rf, linear trees; categories and missing values"
    formats: ClassVar[tuple[str, ...]] = ("lightgbm",)
    modules: ClassVar[tuple[str, ...]] = ("lightgbm", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters import lightgbm_text

        say("reading the model")
        text = source.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        model = _Model(lightgbm_text.read(text))
        say("writing its trees as ONNX")
        model.write(folder / "model.onnx")
        say("opening the original")
        return Conversion(folder / "model.onnx", _answers_of(text), model.rows, model.manifest(), model.notes())


def write_trees(text: str, path: Path, ml_opset: int) -> None:
    """A booster's text as ONNX with one input and one output, for a converter of models that have one within them."""
    from converters import lightgbm_text

    _Model(lightgbm_text.read(text)).write(path, ml_opset)


class _Model:
    """A text model, and what its trees were seen to look at."""

    def __init__(self, text: "TextModel") -> None:
        self.text = text
        word, *parameters = text.objective.split() or [""]
        self.objective, self.parameters = word, dict(item.partition(":")[::2] for item in parameters)
        require(word in KNOWN, f"the objective {word} is not known here: what it makes of its trees' sum cannot be "
                "told; save the model with one of LightGBM's own objectives")  # fmt: skip
        require(
            0 < text.classes <= max(1, len(text.trees)), "the file's classes are not those of its trees: it is damaged"
        )
        require(len(text.trees) % text.classes == 0, "the last iteration's trees are not complete: the file is cut off")
        self.thresholds: dict[int, set[float]] = {}
        self.categories: dict[int, int] = {}

    def write(self, path: Path, ml_opset: int = 5) -> None:
        from converters.graph import Graph
        from converters.trees import Columns

        graph, columns = Graph(ml_opset=ml_opset), Columns(self.text.columns, truncates=True)
        x = graph.input("input", np.float64, ["rows", self.text.columns])
        if any(tree.is_linear for tree in self.text.trees):
            raw = self._linear_sum(graph, x, columns)
        else:
            raw = self._sum(graph, x, columns)
        if self.text.averages and self.text.trees:
            iterations = np.float64(len(self.text.trees) // self.text.classes)
            raw = graph.node("Div", raw, graph.constant(np.asarray(iterations)))
        value = self._transformed(graph, raw)
        shape: list[str | int] = ["rows"]
        if self.text.classes == 1:
            value = graph.node("Squeeze", value, graph.constant(np.array([1], np.int64)))
        else:
            shape.append(self.text.classes)
        graph.output("prediction", value, np.float64, shape)
        graph.save(path)

    def _sum(self, graph: "Graph", x: str, columns: "Columns") -> str:
        from converters.trees import Ensemble

        ensemble = Ensemble(self.text.classes)
        for index, tree in enumerate(self.text.trees):
            ensemble.add(self._nodes(tree, columns, tree.leaf_value), index % self.text.classes)
        return ensemble.write(graph, columns.write(graph, x, np.float64), np.float64)

    def _linear_sum(self, graph: "Graph", x: str, columns: "Columns") -> str:
        """The trees say which leaf each row is in; a leaf's constant and coefficients are looked up."""
        from converters.linear_leaves import LinearLeaves
        from converters.trees import Ensemble

        ensemble, leaves = Ensemble(len(self.text.trees)), LinearLeaves(self.text.columns)
        for index, tree in enumerate(self.text.trees):
            first = leaves.count
            for leaf, value in enumerate(tree.leaf_value):
                if tree.is_linear:
                    leaves.add(float(tree.constants[leaf]), float(value), tree.linear[leaf])
                else:
                    leaves.add(float(value), float(value), ())
            ensemble.add(self._nodes(tree, columns, np.arange(first, leaves.count, dtype=np.float64)), index)
        numbers = ensemble.write(graph, columns.write(graph, x, np.float64), np.float64)
        values = leaves.write(graph, x, numbers)
        sums = np.zeros((len(self.text.trees), self.text.classes))
        sums[np.arange(len(sums)), np.arange(len(sums)) % self.text.classes] = 1
        return graph.node("MatMul", values, graph.constant(sums))

    def _nodes(
        self, tree: "TextTree", columns: "Columns", leaves: "np.ndarray[Any, np.dtype[np.float64]]"
    ) -> "list[Node]":
        """Its nodes, and after them its leaves with the weights that are given."""
        nodes: list[Node] = [self._split(tree, at, columns) for at in range(len(tree.leaf_value) - 1)]
        return [*nodes, *(float(weight) for weight in leaves)]

    def _split(self, tree: "TextTree", at: int, columns: "Columns") -> "Node":
        from converters import lightgbm_text as words
        from converters.trees import ZERO, Split

        nodes = len(tree.leaf_value) - 1
        left, right = (int(c) if c >= 0 else nodes + ~int(c) for c in (tree.left[at], tree.right[at]))
        feature, decision = int(tree.feature[at]), int(tree.decision[at])
        threshold = float(tree.threshold[at])
        if decision & words.CATEGORICAL:
            require(
                0 <= threshold < len(tree.sets), "a split names categories that the file does not have: it is damaged"
            )
            members = tree.sets[int(threshold)]
            self.categories[feature] = max(self.categories.get(feature, 0), *(c + 1 for c in members), 1)
            return Split(columns.in_set(feature, members, missing=False), ">", 0.5, left, right, False)
        self.thresholds.setdefault(feature, set()).add(threshold)
        if abs(threshold) <= ZERO:  # what is so near to zero is taken for zero before it is compared
            threshold = ZERO if threshold >= 0 else float(np.nextafter(-ZERO, -np.inf))
        default_left, kind = bool(decision & words.DEFAULT_LEFT), decision >> 2 & 3
        if kind == words.MISSING_ZERO:
            return Split(columns.zero_missing(feature), "<=", threshold, left, right, default_left)
        missing_left = default_left if kind == words.MISSING_NAN else threshold >= 0  # else it counts as zero
        return Split(columns.own(feature), "<=", threshold, left, right, missing_left)

    def _transformed(self, graph: "Graph", raw: str) -> str:
        def constant(number: float) -> str:
            return graph.constant(np.asarray(np.float64(number)))

        if self.objective in EXPONENTIAL:
            return graph.node("Exp", raw)
        if self.objective in SIGMOID:
            scaled = graph.node("Mul", raw, constant(float(self.parameters.get("sigmoid", 1))))
            return graph.node("Sigmoid", scaled)
        if self.objective == "multiclass":
            return graph.node("Softmax", raw, axis=1)
        if self.objective == "cross_entropy_lambda":  # log(1 + exp(x)), which LightGBM reckons so, too
            return graph.node("Log", graph.node("Add", constant(1), graph.node("Exp", raw)))
        if self.objective == "regression" and "sqrt" in self.parameters:
            return graph.node("Mul", graph.node("Sign", raw), graph.node("Mul", raw, raw))
        return raw

    def rows(self, count: int, random: np.random.Generator) -> Feed:
        from converters.table_rows import rows_around

        rows = rows_around(
            count, random, self.text.columns, np.float64, thresholds=self.thresholds, categories=self.categories
        )
        return {"input": rows}

    def manifest(self) -> dict[str, Any]:
        names = self.text.names
        if len(names) != self.text.columns or len(set(names)) != len(names):
            return {}
        return {"input": [{"name": "input", "as": "columns", "columns": list(names), "missing": "nan"}]}

    def notes(self) -> tuple[str, ...]:
        notes = []
        if self.categories:
            notes.append("categories are numbers: the codes that the model was trained with")
        if self.text.averages:
            notes.append("a random forest: the mean of its trees")
        return tuple(notes)


def _answers_of(text: str) -> Callable[[Feed], Feed]:
    import lightgbm

    booster = lightgbm.Booster(model_str=text)

    def answer(feed: Feed) -> Feed:
        predicted = booster.predict(feed["input"], num_threads=1, num_iteration=-1)
        return {"prediction": np.asarray(predicted, np.float64)}

    return answer


CONVERTER = LightGBMConverter()
