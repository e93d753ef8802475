"""XGBoost's own files: gbtree, dart and gblinear, categories, missing values, every objective it has.

The graph is written from the model's JSON: see docs/decisions for why. What a tree does: xgboost
src/predictor/predict_fn.h and src/common/categorical.h; what an objective does with the sum: src/objective/*.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from converters.converter import Conversion, Converter, Feed, Say, require
from converters.detected import Detected
from converters.options import Options

if TYPE_CHECKING:
    from converters.graph import Graph
    from converters.trees import Columns, Node

IDENTITY = (
    "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
    "reg:quantileerror", "binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map",
)  # fmt: skip
SIGMOID = ("reg:logistic", "binary:logistic")
EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
MULTICLASS = ("multi:softprob", "multi:softmax")


class XGBoostConverter(Converter):
    name: ClassVar[str] = "xgboost"
    extra: ClassVar[str] = "xgboost"
    title: ClassVar[str] = "XGBoost"
    takes: ClassVar[str] = "native models as JSON or UBJSON: gbtree, dart, gblinear; categories and missing values"
    formats: ClassVar[tuple[str, ...]] = ("xgboost-json", "xgboost-ubjson")
    modules: ClassVar[tuple[str, ...]] = ("xgboost", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        import xgboost

        say("reading the model")
        booster = xgboost.Booster(params={"nthread": 1, "verbosity": 0})
        booster.load_model(bytearray(source.read_bytes()))
        booster, is_cut = _as_its_class_answers(booster)
        say("writing its trees as ONNX")
        model = _read(booster)
        model.is_cut = is_cut
        model.write(folder / "model.onnx")
        return Conversion(
            folder / "model.onnx",
            _answers_of(booster, model),
            model.rows,
            model.manifest(),
            model.notes(),
        )


def write_trees(booster: Any, path: Path, ml_opset: int) -> None:
    """A booster as ONNX with one input and one output, for a converter of models that have one within them."""
    _read(booster).write(path, ml_opset)


def _read(booster: Any) -> "_Model":
    return _Model(json.loads(bytes(booster.save_raw("json")))["learner"])


def _as_its_class_answers(booster: Any) -> tuple[Any, bool]:
    """XGBClassifier and its like leave their mark in a file; they use the trees up to the best iteration alone. Whether
    there are such trees is told, too."""
    best = booster.attr("best_iteration")
    if best is None or booster.attr("scikit_learn") is None or int(best) + 1 >= booster.num_boosted_rounds():
        return booster, False
    return booster[: int(best) + 1], True


class _Model:
    """A learner's JSON, read. `columns` is how many the input has."""

    def __init__(self, learner: dict[str, Any]) -> None:
        parameters = learner["learner_model_param"]
        self.objective = str(learner["objective"]["name"])
        self.booster = learner["gradient_booster"]
        self.columns = int(parameters["num_feature"])
        self.targets = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
        self.names = [str(name) for name in learner.get("feature_names", [])]
        self.types = [str(word) for word in learner.get("feature_types", [])]
        self.attributes = learner.get("attributes", {})
        self.base = self._base(parameters["base_score"])
        known = (*IDENTITY, *SIGMOID, *EXPONENTIAL, *MULTICLASS, "binary:hinge")
        require(self.objective in known, f"the objective {self.objective} is not known here: what it makes of the sum "
                "of the trees cannot be told; save the model with one of XGBoost's own objectives")  # fmt: skip
        self.kind = str(self.booster["name"])
        require(self.kind in ("gbtree", "dart", "gblinear"), f"a booster of kind {self.kind} is not known here")
        self.is_cut = False
        self.thresholds: dict[int, set[float]] = {}
        self.categories: dict[int, int] = {}

    def _base(self, text: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The base score of each target as a margin; the file has it as the objective's prediction."""
        values = json.loads(text) if isinstance(text, str) else text
        base = np.broadcast_to(np.asarray(values, np.float32).reshape(-1), (self.targets,)).copy()
        if self.objective in SIGMOID:
            base = -np.log(np.float32(1) / base - np.float32(1))
        elif self.objective in EXPONENTIAL:
            base = np.log(base)
        return base.astype(np.float32)

    def write(self, path: Path, ml_opset: int = 5) -> None:
        from converters.graph import Graph

        graph = Graph(ml_opset=ml_opset)
        x = graph.input("input", np.float32, ["rows", self.columns])
        margin = self._linear(graph, x) if self.kind == "gblinear" else self._trees(graph, x)
        value, shape = self._transformed(graph, margin)
        graph.output("prediction", value, np.float32, ["rows", *shape])
        graph.save(path)

    def _linear(self, graph: "Graph", x: str) -> str:
        weights = np.asarray(self.booster["model"]["weights"], np.float32).reshape(-1, self.targets)
        require(len(weights) == self.columns + 1, "the linear model's weights are not as many as its columns")
        zero = graph.constant(np.zeros((), np.float32))
        present = graph.node("Where", graph.node("IsNaN", x), zero, x)  # what is missing adds nothing
        product = graph.node("MatMul", present, graph.constant(weights[:-1].copy()))
        # XGBoost adds the first target's base score to each (gblinear.cc, PredictBatchInternal).
        return graph.node("Add", product, graph.constant((weights[-1] + self.base[0]).reshape(1, -1)))

    def _trees(self, graph: "Graph", x: str) -> str:
        from converters.trees import Columns, Ensemble

        model = self.booster["gbtree"]["model"] if self.kind == "dart" else self.booster["model"]
        drops = self.booster["weight_drop"] if self.kind == "dart" else [1.0] * len(model["trees"])
        require(
            len(drops) == len(model["trees"]) == len(model["tree_info"]), "the trees are not as many as the file says"
        )
        columns, ensemble = Columns(self.columns, truncates=False), Ensemble(self.targets)
        for tree, target, weight in zip(model["trees"], model["tree_info"], drops, strict=True):
            single = int(tree["tree_param"].get("size_leaf_vector", 1)) <= 1
            require(single, "a leaf of its trees is a vector: train it with multi_strategy='one_output_per_tree'")
            ensemble.add(self._nodes(tree, columns, np.float32(weight)), int(target))
        ensemble.bias += self.base
        return ensemble.write(graph, columns.write(graph, x, np.float32), np.float32)

    def _nodes(self, tree: dict[str, Any], columns: "Columns", weight: np.float32) -> "list[Node]":
        from converters.trees import Split

        sets = _category_sets(tree)
        nodes: list[Node] = []
        for at, left in enumerate(tree["left_children"]):
            feature, value = int(tree["split_indices"][at]), np.float32(tree["split_conditions"][at])
            right, default_left = int(tree["right_children"][at]), bool(tree["default_left"][at])
            if left == -1:
                nodes.append(float(value * weight))
            elif at in sets:
                self.categories[feature] = max(self.categories.get(feature, 0), *(c + 1 for c in sets[at]), 1)
                column = columns.in_set(feature, sets[at], missing=not default_left)
                nodes.append(Split(column, ">", 0.5, right, int(left), False))
            else:
                self.thresholds.setdefault(feature, set()).add(float(value))
                nodes.append(Split(columns.own(feature), "<", float(value), int(left), right, default_left))
        return nodes

    def _transformed(self, graph: "Graph", margin: str) -> tuple[str, list[str | int]]:
        """What Booster.predict() gives, and its shape after the rows."""
        value, shape = margin, [self.targets] if self.targets > 1 else []
        if self.objective in SIGMOID:
            value = graph.node("Sigmoid", margin)
        elif self.objective in EXPONENTIAL:
            value = graph.node("Exp", margin)
        elif self.objective == "binary:hinge":
            value = graph.cast(graph.node("Greater", margin, graph.constant(np.zeros((), np.float32))), np.float32)
        elif self.objective == "multi:softprob":
            return graph.node("Softmax", margin, axis=1), [self.targets]
        elif self.objective == "multi:softmax":
            return graph.cast(graph.node("ArgMax", margin, axis=1, keepdims=0), np.float32), []
        if self.targets == 1:
            value = graph.node("Squeeze", value, graph.constant(np.array([1], np.int64)))
        return value, list(shape)

    def rows(self, count: int, random: np.random.Generator) -> Feed:
        from converters.table_rows import rows_around

        rows = rows_around(
            count, random, self.columns, np.float32, thresholds=self.thresholds, categories=self.categories
        )
        return {"input": rows}

    def manifest(self) -> dict[str, Any]:
        if len(self.names) != self.columns or len(set(self.names)) != self.columns:
            return {}
        return {"input": [{"name": "input", "as": "columns", "columns": self.names, "missing": "nan"}]}

    def notes(self) -> tuple[str, ...]:
        notes = []
        if self.is_cut:
            notes.append(
                "the trees up to the best iteration of early stopping are used, as by the class that wrote the file"
            )
        elif "best_iteration" in self.attributes and "scikit_learn" not in self.attributes:
            notes.append(
                "all trees are used, as by Booster.predict(); the scikit-learn classes stop at the best iteration "
                f"({self.attributes['best_iteration']}): save booster[: best_iteration + 1] for that"
            )
        if "c" in self.types:
            notes.append("categories are numbers: the codes that the model was trained with")
        return tuple(notes)


def _category_sets(tree: dict[str, Any]) -> dict[int, list[int]]:
    """By node: the categories that go right."""
    sets, every = {}, tree.get("categories", [])
    starts, sizes = tree.get("categories_segments", []), tree.get("categories_sizes", [])
    for node, start, size in zip(tree.get("categories_nodes", []), starts, sizes, strict=True):
        sets[int(node)] = [int(category) for category in every[start : start + size]]
    return sets


def _answers_of(booster: Any, model: _Model) -> Callable[[Feed], Feed]:
    import xgboost

    types = model.types if len(model.types) == model.columns else None

    def answer(feed: Feed) -> Feed:
        matrix = xgboost.DMatrix(feed["input"], feature_types=types, enable_categorical=True, missing=np.nan, nthread=1)
        predicted = booster.predict(matrix, validate_features=False, strict_shape=False)
        return {"prediction": np.asarray(predicted, np.float32)}

    return answer


CONVERTER = XGBoostConverter()
