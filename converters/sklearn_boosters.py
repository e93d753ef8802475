"""Models of XGBoost, LightGBM and CatBoost with scikit-learn's methods, within its pipelines or pickled alone.

In the process of a conversion alone. Their own converters write the trees; what their classes make of them is here.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from appliance.core.errors import RefusedError
from converters.converter import require
from converters.graph import Graph
from converters.sklearn_table import Table

Outputs = dict[str, str]


def is_booster(model: Any) -> bool:
    return type(model).__module__.split(".")[0] in ("xgboost", "lightgbm", "catboost") and hasattr(model, "predict")


def written(model: Any, table: Table) -> Outputs:
    """Raises RefusedError where the model's own converter does."""
    graph, value = table.graph, table.matrix()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        single = _write(model, path, graph.ml_opset)
        trees = onnx.load(str(path))
    if single:
        missing = getattr(model, "missing", None)
        if isinstance(missing, int | float) and missing == missing:
            value = _without(graph, value, float(missing))
        if table.is_sparse and type(model).__module__.startswith("xgboost"):
            value = _without(graph, value, 0.0)
        value = graph.cast(value, np.float32)
    made = graph.merge(trees, {"input": value})
    if "label" in made:  # CatBoost's: texts, or numbers
        kind = np.asarray(model.classes_).dtype.kind
        if kind == "b":
            made["label"] = graph.node("Equal", made["label"], graph.constant(np.array(["True"], object)))
        if kind in "iufb":
            made["label"] = graph.cast(made["label"], np.int64)
        return made
    wide = graph.cast(made["prediction"], np.float64)
    if not hasattr(model, "predict_proba"):
        return {"variable": graph.node("Reshape", wide, graph.constant(np.array([-1, _targets(trees)], np.int64)))}
    return _classes(model, table, wide, _targets(trees))


def _without(graph: Graph, value: str, number: float) -> str:
    """NaN wherever the number stands."""
    is_missing = graph.node("Equal", value, graph.constant(np.array(number)))
    return graph.node("Where", is_missing, graph.constant(np.array(np.nan)), value)


def _write(model: Any, path: Path, ml_opset: int) -> bool:
    """Whether it takes single precision."""
    library = type(model).__module__.split(".")[0]
    if library == "xgboost":
        from converters.frameworks import xgboost

        require(not _framed(model), f"the {type(model).__name__} learned categories of a data frame: save it "
                "with model.save_model('model.json') and convert that, which takes the codes")  # fmt: skip
        booster, best = model.get_booster(), getattr(model, "best_iteration", None) if _stopped(model) else None
        xgboost.write_trees(booster if best is None else booster[: best + 1], path, ml_opset)
        return True
    if library == "lightgbm":
        from converters.frameworks import lightgbm

        require(not model.booster_.pandas_categorical, f"the {type(model).__name__} learned categories of a data "
                "frame: save it with model.booster_.save_model('model.txt') and convert that, which takes "
                "the codes")  # fmt: skip
        lightgbm.write_trees(model.booster_.model_to_string(num_iteration=model.best_iteration_ or -1), path, ml_opset)
        return False
    from converters.frameworks import catboost

    catboost.write_trees(model, path, ml_opset)
    return True


def has_flags(model: Any) -> bool:
    """Whether an XGBoost model says of each of several labels whether it holds."""
    if not type(model).__module__.startswith("xgboost.") or not hasattr(model, "predict_proba"):
        return False
    learner = json.loads(model.get_booster().save_config())["learner"]["learner_model_param"]
    return int(learner.get("num_target", 1)) > 1


def _framed(model: Any) -> bool:
    """Whether an XGBoost model keeps the words of a data frame's categories, which it then asks for."""
    tree = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]["gradient_booster"]
    return bool(tree.get("model", {}).get("cats", {}).get("enc"))


def _stopped(model: Any) -> bool:
    try:
        return model.best_iteration is not None
    except AttributeError:
        return False


def _targets(trees: onnx.ModelProto) -> int:
    shape = trees.graph.output[0].type.tensor_type.shape.dim
    return int(shape[1].dim_value) if len(shape) > 1 else 1


def _classes(model: Any, table: Table, prediction: str, count: int) -> Outputs:
    graph = table.graph
    if getattr(model, "objective", None) == "multi:softmax":
        raise RefusedError(
            "an XGBClassifier with objective='multi:softmax' gives no probabilities: use 'multi:softprob'"
        )
    probabilities = prediction
    if has_flags(model):
        above = graph.node("Greater", prediction, graph.constant(np.array(0.5)))
        return {"label": graph.cast(above, np.int64), "probabilities": prediction}
    if count == 1:
        second = graph.node("Reshape", prediction, graph.constant(np.array([-1, 1], np.int64)))
        first = graph.node("Sub", graph.constant(np.array(1.0)), second)
        probabilities = graph.node("Concat", first, second, axis=1)
    return {"label": chosen(table, model.classes_, probabilities), "probabilities": probabilities}


def chosen(table: Table, classes: Any, probabilities: str) -> str:
    """The class of the largest number in each row."""
    return named(table, classes, table.graph.node("ArgMax", probabilities, axis=1, keepdims=0))


def named(table: Table, classes: Any, places: str) -> str:
    """The classes at these places: texts, or whole numbers."""
    classes = np.asarray(classes)
    names = classes.astype(str).astype(object) if classes.dtype.kind in "OUS" else classes.astype(np.int64)
    return table.graph.node("Gather", table.graph.constant(names), places, axis=0)


def by_sign(table: Table, classes: Any, raw: str, operator: str) -> str:
    """The second of two classes where [rows, 1] is `operator` (Greater, GreaterOrEqual) zero, else the first."""
    reached = table.graph.node(operator, raw, table.graph.constant(np.array(0.0)))
    flags = table.graph.cast(reached, np.int64)
    return named(table, classes, table.graph.node("Reshape", flags, table.graph.constant(np.array([-1], np.int64))))


def of_two(graph: Graph, raw: str) -> str:
    """[rows, 2] of the probabilities of two classes, of [rows, 1] of what a logistic function takes."""
    second = graph.node("Sigmoid", raw)
    return graph.node("Concat", graph.node("Sub", graph.constant(np.array(1.0)), second), second, axis=1)
