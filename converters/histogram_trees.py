"""scikit-learn's histogram boosting with categories as ONNX, which skl2onnx takes for plain numbers.

In the process of a conversion alone. All is in double precision, as scikit-learn reckons. A category that was not
seen, a fraction among them, goes where missing values go.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.converter import Conversion, Feed, require
from converters.graph import Graph
from converters.table_rows import rows_around
from converters.trees import Columns, Ensemble, Node, Split

NAMES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
MAX_CATEGORY = 2**20


def has_categories(model: Any) -> bool:
    return type(model).__name__ in NAMES and getattr(model, "is_categorical_", None) is not None


def convert(model: Any, path: Path) -> Conversion:
    """Raises RefusedError where the categories are no whole numbers from zero up."""
    known = _categories(model)
    graph, columns = Graph(), Columns(model.n_features_in_, truncates=True)
    x = graph.input("input", np.float64, ["rows", model.n_features_in_])
    ensemble, thresholds = Ensemble(model.n_trees_per_iteration_), dict[int, list[float]]()
    # Trees see the categories' columns first, as they come out of the encoder.
    order = [*np.flatnonzero(model.is_categorical_), *np.flatnonzero(~model.is_categorical_)]
    for stage in model._predictors:
        for target, predictor in enumerate(stage):
            nodes = [_node(predictor, at, [int(column) for column in order], known, columns, thresholds)
                     for at in range(len(predictor.nodes))]  # fmt: skip
            ensemble.add(nodes, target)
    ensemble.bias += np.asarray(model._baseline_prediction, np.float64).ravel()
    raw = ensemble.write(graph, columns.write(graph, _whole(graph, x, model.is_categorical_), np.float64), np.float64)
    outputs = _classes(graph, raw, model) if hasattr(model, "classes_") else _numbers(graph, raw, model)
    graph.save(path)

    def rows(count: int, random: np.random.Generator) -> Feed:
        sizes = {column: int(max(codes, default=0)) + 1 for column, codes in known.items()}
        return {"input": rows_around(count, random, model.n_features_in_, np.float64, thresholds=thresholds,
                                     categories=sizes)}  # fmt: skip

    def answer(feed: Feed) -> Feed:
        table: Any = feed["input"]
        if hasattr(model, "feature_names_in_"):
            import pandas

            table = pandas.DataFrame(table, columns=model.feature_names_in_)
        answers = {
            "label": model.predict,
            "variable": model.predict,
            "probabilities": getattr(model, "predict_proba", None),
        }
        made = {name: np.asarray(answers[name](table)) for name in outputs}
        return {name: array.reshape(-1, 1) if name == "variable" else array for name, array in made.items()}

    return Conversion(path, answer, rows, _manifest(model), ("categories are numbers, as the model was trained",))


def _categories(model: Any) -> dict[int, NDArray[np.int64]]:
    """By the model's column: the categories in the order of their codes."""
    encoder = model._preprocessor.named_transformers_["encoder"]
    found = {}
    for column, items in zip(np.flatnonzero(model.is_categorical_), encoder.categories_, strict=True):
        numbers = [item for item in items if item is not None and item == item]
        whole = all(isinstance(n, int | float | np.number) and n == int(n) and 0 <= n < MAX_CATEGORY for n in numbers)
        require(whole, f"the categories of column {column} are no whole numbers from 0 up: train on the codes of an "
                "OrdinalEncoder, and put them into the calls")  # fmt: skip
        found[int(column)] = np.asarray(numbers, np.int64)
    return found


def _whole(graph: Graph, x: str, are_categories: NDArray[np.bool_]) -> str:
    """With NaN for what is no whole number among the categories."""
    fraction = graph.node("Not", graph.node("Equal", x, graph.node("Floor", x)))
    strange = graph.node("And", fraction, graph.constant(are_categories.reshape(1, -1)))
    return graph.node("Where", strange, graph.constant(np.array(np.nan)), x)


def _node(
    predictor: Any,
    at: int,
    order: list[int],
    known: dict[int, NDArray[np.int64]],
    columns: Columns,
    thresholds: dict[int, list[float]],
) -> Node:
    node = predictor.nodes[at]
    if node["is_leaf"]:
        return float(node["value"])
    column, left, right = order[node["feature_idx"]], int(node["left"]), int(node["right"])
    missing_left = bool(node["missing_go_to_left"])
    if not node["is_categorical"]:
        thresholds.setdefault(column, []).append(float(node["num_threshold"]))
        return Split(columns.own(column), "<=", float(node["num_threshold"]), left, right, missing_left)
    codes = np.arange(len(known[column]))
    bits = predictor.raw_left_cat_bitsets[node["bitset_idx"]]
    goes_left = (bits[codes // 32] >> (codes % 32).astype(bits.dtype) & 1).astype(bool)
    # The side that missing values and unknown categories do not take is the one that is looked up.
    if missing_left:
        others = columns.in_set(column, known[column][~goes_left].tolist(), missing=False)
        return Split(others, "<=", 0.5, left, right, True)
    return Split(columns.in_set(column, known[column][goes_left].tolist(), missing=False), ">", 0.5, left, right, False)


def _numbers(graph: Graph, raw: str, model: Any) -> tuple[str, ...]:
    value = graph.node("Exp", raw) if model.loss in ("poisson", "gamma") else raw
    graph.output("variable", value, np.float64, ["rows", 1])
    return ("variable",)


def _classes(graph: Graph, raw: str, model: Any) -> tuple[str, ...]:
    if model.n_trees_per_iteration_ == 1:
        second = graph.node("Sigmoid", raw)
        first = graph.node("Sub", graph.constant(np.array(1.0)), second)
        probabilities = graph.node("Concat", first, second, axis=1)
    else:
        probabilities = graph.node("Softmax", raw, axis=1)
    is_text = model.classes_.dtype.kind in "OUS"
    classes = model.classes_.astype(object) if is_text else model.classes_.astype(np.int64)
    best = graph.node("ArgMax", probabilities, axis=1, keepdims=0)
    graph.output(
        "label", graph.node("Gather", graph.constant(classes), best), object if is_text else np.int64, ["rows"]
    )
    graph.output("probabilities", probabilities, np.float64, ["rows", len(classes)])
    return ("label", "probabilities")


def _manifest(model: Any) -> dict[str, Any]:
    manifest: dict[str, Any] = {}
    if hasattr(model, "feature_names_in_"):
        names = [str(name) for name in model.feature_names_in_]
        manifest["input"] = [{"name": "input", "as": "columns", "columns": names}]
    if hasattr(model, "classes_"):
        manifest["labels"] = [str(item) for item in model.classes_]
        manifest["output"] = [{"name": "probabilities", "labels": True}]
    return manifest
