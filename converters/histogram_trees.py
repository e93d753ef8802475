"""scikit-learn's histogram boosting as ONNX, in double precision, as it reckons; with its categories, which skl2onnx
takes for plain numbers.

In the process of a conversion alone. A category that was not seen, a fraction among them, goes where missing values go.
"""

from typing import Any

import numpy as np

from converters.sklearn_boosters import by_sign, chosen, of_two
from converters.sklearn_table import Block, Table, code_of
from converters.trees import Columns, Ensemble, Node, Split

NAMES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def is_histogram(model: Any) -> bool:
    return type(model).__name__ in NAMES


def categories_of(model: Any) -> dict[int, list[Any]]:
    """By the model's column: the categories in the order of their codes, numbers or texts."""
    if getattr(model, "is_categorical_", None) is None:
        return {}
    encoder = model._preprocessor.named_transformers_["encoder"]
    places = np.flatnonzero(model.is_categorical_)
    return {
        int(column): [item for item in items if item is not None and item == item]
        for column, items in zip(places, encoder.categories_, strict=True)
    }


def order_of(model: Any) -> list[int]:
    """The model's columns in the order in which its trees see them: categories first, as they leave the encoder."""
    known = categories_of(model)
    return [*known, *(column for column in range(model.n_features_in_) if column not in known)]


def written(model: Any, table: Table) -> dict[str, str]:
    graph, known, order = table.graph, categories_of(model), order_of(model)
    blocks = [_coded(table, column, known.get(column)) for column in order] if known else list(table.blocks)
    x = table.of(*blocks).matrix()
    columns, ensemble = Columns(model.n_features_in_, truncates=True), Ensemble(model.n_trees_per_iteration_)
    for stage in model._predictors:
        for target, predictor in enumerate(stage):
            nodes = [_node(predictor, at, len(known), columns) for at in range(len(predictor.nodes))]
            ensemble.add(nodes, target)
    ensemble.bias += np.asarray(model._baseline_prediction, np.float64).ravel()
    raw = ensemble.write(graph, columns.write(graph, x, np.float64), np.float64)
    if not hasattr(model, "classes_"):
        return {"variable": graph.node("Exp", raw) if model.loss in ("poisson", "gamma") else raw}
    if model.n_trees_per_iteration_ == 1:
        return {"label": by_sign(table, model.classes_, raw, "Greater"), "probabilities": of_two(graph, raw)}
    return {"label": chosen(table, model.classes_, raw), "probabilities": graph.node("Softmax", raw, axis=1)}


def _coded(table: Table, column: int, categories: list[Any] | None) -> Block:
    """The column; of categories the code, NaN for what is none of them."""
    own = table.column(column)
    if categories is None:
        return own
    graph = table.graph
    code = graph.cast(code_of(table, own, categories), np.float64)
    unknown = graph.node("Equal", code, graph.constant(np.array(float(len(categories)))))
    return Block(graph.node("Where", unknown, graph.constant(np.array(np.nan)), code), 1)


def _node(predictor: Any, at: int, encoded: int, columns: Columns) -> Node:
    """`encoded`: how many of the first columns are codes."""
    node = predictor.nodes[at]
    if node["is_leaf"]:
        return float(node["value"])
    column, left, right = int(node["feature_idx"]), int(node["left"]), int(node["right"])
    missing_left = bool(node["missing_go_to_left"])
    if not node["is_categorical"]:
        return Split(columns.own(column), "<=", float(node["num_threshold"]), left, right, missing_left)
    assert column < encoded
    bits = predictor.raw_left_cat_bitsets[node["bitset_idx"]]
    codes = np.arange(len(bits) * 32)
    goes_left = (bits[codes // 32] >> (codes % 32).astype(bits.dtype) & 1).astype(bool)
    # Codes alone arrive here, NaN for all else, which goes its own way.
    left_codes = columns.in_set(column, codes[goes_left].tolist(), missing=missing_left)
    return Split(left_codes, ">", 0.5, left, right, False)
