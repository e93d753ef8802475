"""What scikit-learn makes of other models (votes, stacks, calibration, thresholds, chains, targets), written as ONNX.

In the process of a conversion alone. The models within are the writer's (sklearn_graph.py).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.converter import require
from converters.sklearn_boosters import Outputs, by_sign, chosen, named
from converters.sklearn_distances import nearest
from converters.sklearn_table import Block, Table, interpolated, ones_like
from converters.sklearn_targets import inverse

if TYPE_CHECKING:
    from converters.sklearn_graph import Writer

LEAST_SHARE = 1e-12  # what sklearn.calibration adds to a probability before its logarithm


def _transformed_target(writer: "Writer", model: Any, table: Table) -> Outputs:
    value = writer.outputs(model.regressor_, table)["variable"]
    width = max(1, model._training_dim)
    return {"variable": inverse(model.transformer_, table.of(Block(value, width))).matrix()}


def _fixed_threshold(writer: "Writer", model: Any, table: Table) -> Outputs:
    return _threshold(writer, model, table, model.threshold, model.pos_label)


def _tuned_threshold(writer: "Writer", model: Any, table: Table) -> Outputs:
    return _threshold(writer, model, table, model.best_threshold_, model._curve_scorer._get_pos_label())


def _threshold(writer: "Writer", model: Any, table: Table, threshold: Any, positive: Any) -> Outputs:
    graph, inner, classes = table.graph, model.estimator_, list(model.classes_)
    at = 1 if positive is None else classes.index(positive)
    by_probability = model.response_method != "decision_function" and hasattr(inner, "predict_proba")
    if by_probability:
        probabilities = writer.probabilities(inner, table)
        score = graph.node("Gather", probabilities, graph.constant(np.array([at], np.int64)), axis=1)
    else:
        score = writer.decision(inner, table)
        score = score if at == 1 else graph.node("Neg", score)
    least = (0.5 if by_probability else 0.0) if threshold == "auto" else float(threshold)
    reached = graph.cast(graph.node("GreaterOrEqual", score, graph.constant(np.array(least))), np.int64)
    place = graph.node("Reshape", reached, graph.constant(np.array([-1], np.int64)))
    label = named(table, np.array([classes[1 - at], classes[at]]), place)
    return {"label": label, "probabilities": probabilities} if by_probability else {"label": label}


def _voting_classifier(writer: "Writer", model: Any, table: Table) -> Outputs:
    graph, classes = table.graph, np.asarray(model.classes_)
    if model.voting == "soft":
        mean = _mean(model, table, [writer.probabilities(one, table) for one in model.estimators_])
        return {"label": chosen(table, classes, mean), "probabilities": mean}
    numbers, votes = graph.constant(np.arange(len(classes)).reshape(1, -1)), []
    for one in model.estimators_:
        label = graph.node("Reshape", writer.outputs(one, table)["label"], graph.constant(np.array([-1, 1], np.int64)))
        votes.append(graph.cast(graph.node("Equal", label, numbers), np.float64))
    return {"label": chosen(table, classes, _mean(model, table, votes))}


def _voting_regressor(writer: "Writer", model: Any, table: Table) -> Outputs:
    values = [writer.outputs(one, table)["variable"] for one in model.estimators_]
    return {"variable": _mean(model, table, values)}


def _mean(model: Any, table: Table, values: list[str]) -> str:
    graph, weights = table.graph, model._weights_not_none
    if weights is not None:
        values = [graph.node("Mul", value, graph.constant(np.array(float(weight))))
                  for value, weight in zip(values, weights, strict=True)]  # fmt: skip
    total = float(len(values) if weights is None else sum(weights))
    return graph.node("Div", graph.node("Sum", *values), graph.constant(np.array(total)))


def _stacking_classifier(writer: "Writer", model: Any, table: Table) -> Outputs:
    made = _stacked(writer, model, table)
    label = named(table, model.classes_, made.pop("label"))
    return {"label": label, **made}


def _stacking_regressor(writer: "Writer", model: Any, table: Table) -> Outputs:
    return _stacked(writer, model, table)


def _stacked(writer: "Writer", model: Any, table: Table) -> Outputs:
    graph, blocks = table.graph, []
    for one, method in zip(model.estimators_, model.stack_method_, strict=True):
        if method == "predict_proba":
            value, width = writer.probabilities(one, table), len(one.classes_)
            if width == 2:
                value, width = writer.last(table, value), 1
        elif method == "decision_function":
            value, width = writer.decision(one, table), len(one.classes_) if len(one.classes_) > 2 else 1
        else:
            made, width = writer.outputs(one, table), 1
            value = made["variable"] if "variable" in made else graph.cast(made["label"], np.float64)
            value = graph.node("Reshape", value, graph.constant(np.array([-1, 1], np.int64)))
        blocks.append(Block(value, width))
    if model.passthrough:
        blocks += table.blocks
    return writer.outputs(model.final_estimator_, table.of(*blocks))


def _calibrated_classifier(writer: "Writer", model: Any, table: Table) -> Outputs:
    graph = table.graph
    each = [_calibrated(writer, one, table) for one in model.calibrated_classifiers_]
    mean = graph.node("Div", graph.node("Sum", *each), graph.constant(np.array(float(len(each)))))
    return {"label": chosen(table, model.classes_, mean), "probabilities": mean}


def _calibrated(writer: "Writer", one: Any, table: Table) -> str:
    require(one.method in ("sigmoid", "isotonic", "temperature"), f"CalibratedClassifierCV(method={one.method!r}) is "
            "not known: use 'sigmoid' or 'isotonic'")  # fmt: skip
    graph, count = table.graph, len(one.classes)
    require(len(one.estimator.classes_) == count, "a calibrated classifier did not see all classes in each fold")
    if hasattr(one.estimator, "decision_function"):
        scores = writer.decision(one.estimator, table)
    else:
        scores = writer.probabilities(one.estimator, table)
        if one.method == "temperature":
            least = graph.constant(np.array(LEAST_SHARE))
            return _tempered(one, graph.node("Log", graph.node("Add", scores, least)), table)
        scores = scores if count > 2 else writer.last(table, scores)
    if one.method == "temperature":
        logits = graph.node("Concat", graph.node("Neg", scores), scores, axis=1) if count == 2 else scores
        return _tempered(one, logits, table)
    made = []
    for at, calibrator in enumerate(one.calibrators):
        score = graph.node("Gather", scores, graph.constant(np.array([at], np.int64)), axis=1)
        made.append(_calibration(calibrator, score, table))
    if count == 2:
        return graph.node("Concat", graph.node("Sub", graph.constant(np.array(1.0)), made[0]), made[0], axis=1)
    wide = graph.node("Concat", *made, axis=1)
    total = graph.node("ReduceSum", wide, graph.constant(np.array([1], np.int64)), keepdims=1)
    nothing = graph.node("Equal", total, graph.constant(np.array(0.0)))
    least = graph.node("Where", nothing, graph.constant(np.array(1.0)), total)
    return graph.node("Where", nothing, graph.constant(np.array(1 / count)), graph.node("Div", wide, least))


def _tempered(one: Any, logits: str, table: Table) -> str:
    scaled = table.graph.node("Mul", logits, table.graph.constant(np.array(float(one.calibrators[0].beta_))))
    return table.graph.node("Softmax", scaled, axis=1)


def _calibration(calibrator: Any, score: str, table: Table) -> str:
    graph = table.graph
    if hasattr(calibrator, "a_"):  # expit(-(a x + b))
        scaled = graph.node("Mul", score, graph.constant(np.array(float(calibrator.a_))))
        return graph.node("Sigmoid", graph.node("Neg", graph.node("Add", scaled, graph.constant(
            np.array(float(calibrator.b_))))))  # fmt: skip
    known, values = calibrator.X_thresholds_, calibrator.y_thresholds_
    return interpolated(graph, score, np.asarray(known, np.float64), np.asarray(values, np.float64))


def _multi_output_regressor(writer: "Writer", model: Any, table: Table) -> Outputs:
    values = [writer.outputs(one, table)["variable"] for one in model.estimators_]
    return {"variable": table.graph.node("Concat", *values, axis=1)}


def _multi_output_classifier(writer: "Writer", model: Any, table: Table) -> Outputs:
    graph, made = table.graph, [writer.outputs(one, table) for one in model.estimators_]
    side = graph.constant(np.array([-1, 1], np.int64))
    labels = [graph.node("Reshape", one["label"], side) for one in made]
    outputs = {"label": graph.node("Concat", *labels, axis=1)}
    for at, one in enumerate(made):
        if "probabilities" in one:
            outputs[f"probabilities_{at}"] = one["probabilities"]
    return outputs


def _classifier_chain(writer: "Writer", model: Any, table: Table) -> Outputs:
    method = getattr(model, "chain_method_", "predict")
    require(method == "predict", "ClassifierChain is converted with chain_method='predict' alone")
    graph, labels, likely = table.graph, [], []
    for one in model.estimators_:
        made = writer.outputs(one, table)
        side = graph.constant(np.array([-1, 1], np.int64))
        labels.append(graph.cast(graph.node("Reshape", made["label"], side), np.float64))
        likely.append(writer.last(table, made["probabilities"]))
        table = table.of(*table.blocks, Block(labels[-1], 1))
    order = np.argsort(model.order_)
    joined = {"label": graph.cast(graph.node("Concat", *(labels[at] for at in order), axis=1), np.int64)}
    if hasattr(model, "predict_proba"):
        joined["probabilities"] = graph.node("Concat", *(likely[at] for at in order), axis=1)
    return joined


def _regressor_chain(writer: "Writer", model: Any, table: Table) -> Outputs:
    values: list[str] = []
    for one in model.estimators_:
        values.append(writer.outputs(one, table)["variable"])
        table = table.of(*table.blocks, Block(values[-1], 1))
    return {"variable": table.graph.node("Concat", *(values[at] for at in np.argsort(model.order_)), axis=1)}


def _bagging_classifier(writer: "Writer", model: Any, table: Table) -> Outputs:
    graph, count, votes = table.graph, model.n_classes_, []
    for one, features in zip(model.estimators_, model.estimators_features_, strict=True):
        own = table.taken([int(place) for place in features])
        if hasattr(one, "predict_proba"):
            places = np.eye(count)[np.asarray(one.classes_, np.int64)]  # one may not have seen all classes
            vote = graph.node("MatMul", writer.probabilities(one, own), graph.constant(places))
        else:
            label = graph.node("Reshape", writer.outputs(one, own)["label"], graph.constant(np.array([-1, 1])))
            numbers = graph.constant(np.arange(count).reshape(1, -1))
            vote = graph.cast(graph.node("Equal", label, numbers), np.float64)
        votes.append(vote)
    mean = graph.node("Div", graph.node("Sum", *votes), graph.constant(np.array(float(len(votes)))))
    return {"label": chosen(table, model.classes_, mean), "probabilities": mean}


def _bagging_regressor(writer: "Writer", model: Any, table: Table) -> Outputs:
    values = []
    for one, features in zip(model.estimators_, model.estimators_features_, strict=True):
        values.append(writer.outputs(one, table.taken([int(place) for place in features]))["variable"])
    total = table.graph.constant(np.array(float(len(values))))
    return {"variable": table.graph.node("Div", table.graph.node("Sum", *values), total)}


def _self_training(writer: "Writer", model: Any, table: Table) -> Outputs:
    return writer.outputs(model.estimator_, table)


def _of_second(writer: "Writer", one: Any, table: Table) -> str:
    """[rows, 1]: how sure a model of two classes is of the second: its decision function, else a probability."""
    if not hasattr(one, "classes_"):  # it saw one class alone, and says the same of all
        ones = ones_like(table.graph, table.matrix(), np.float64)
        return table.graph.node("Mul", ones, table.graph.constant(np.array(float(one.y_[0]))))
    if hasattr(one, "decision_function"):
        return writer.decision(one, table)
    return writer.last(table, writer.probabilities(one, table))


def _one_vs_rest(writer: "Writer", model: Any, table: Table) -> Outputs:
    graph, each = table.graph, model.estimators_
    sure = graph.node("Concat", *(_of_second(writer, one, table) for one in each), axis=1)
    shown, has_likely = sure, hasattr(model, "predict_proba")
    if has_likely:
        likely = [writer.last(table, writer.probabilities(one, table)) if hasattr(one, "classes_")
                  else _of_second(writer, one, table) for one in each]  # fmt: skip
        shown = graph.node("Concat", *likely, axis=1)
    least = graph.constant(np.array(0.0 if hasattr(each[0], "decision_function") else 0.5))
    if model.multilabel_:
        return {"label": graph.cast(graph.node("Greater", sure, least), np.int64), "probabilities": shown}
    if len(each) == 1:
        label = by_sign(table, model.classes_, graph.node("Sub", sure, least), "Greater")
        first = graph.node("Sub", graph.constant(np.array(1.0)), shown) if has_likely else graph.node("Neg", shown)
        return {"label": label, "probabilities": graph.node("Concat", first, shown, axis=1)}
    if has_likely:
        total = graph.node("ReduceSum", shown, graph.constant(np.array([1], np.int64)), keepdims=1)
        nothing = graph.node("Equal", total, graph.constant(np.array(0.0)))
        over = graph.node("Where", nothing, graph.constant(np.array(1.0)), total)
        shown = graph.node("Div", shown, over)
    return {"label": chosen(table, model.classes_, sure), "probabilities": shown}


def _one_vs_one(writer: "Writer", model: Any, table: Table) -> Outputs:
    """Each pair's model has a vote; how sure all are of a class decides between as many votes."""
    graph, count = table.graph, len(model.classes_)
    votes, sums = [""] * count, [""] * count
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    subsets = getattr(model, "pairwise_indices_", None)
    require(subsets is None, "OneVsOneClassifier over a kernel matrix that is given (precomputed) is not converted")
    for (first, second), one in zip(pairs, model.estimators_, strict=True):
        label = graph.node("Reshape", writer.outputs(one, table)["label"], graph.constant(np.array([-1, 1], np.int64)))
        for_second, sure = graph.cast(label, np.float64), _of_second(writer, one, table)
        for_first = graph.node("Sub", graph.constant(np.array(1.0)), for_second)
        for at, vote, by in ((first, for_first, graph.node("Neg", sure)), (second, for_second, sure)):
            votes[at] = graph.node("Add", votes[at], vote) if votes[at] else vote
            sums[at] = graph.node("Add", sums[at], by) if sums[at] else by
    total = graph.node("Concat", *sums, axis=1)
    most = graph.node("Mul", graph.constant(np.array(3.0)), graph.node("Add", graph.node("Abs", total), graph.constant(
        np.array(1.0))))  # fmt: skip
    shown = graph.node("Add", graph.node("Concat", *votes, axis=1), graph.node("Div", total, most))
    if count > 2:
        return {"label": chosen(table, model.classes_, shown), "probabilities": shown}
    raw = writer.last(table, shown)
    least = graph.constant(np.array(0.0 if hasattr(model.estimators_[0], "decision_function") else 0.5))
    label = by_sign(table, model.classes_, graph.node("Sub", raw, least), "Greater")
    return {"label": label, "probabilities": graph.node("Concat", graph.node("Neg", raw), raw, axis=1)}


def _output_code(writer: "Writer", model: Any, table: Table) -> Outputs:
    """Each model says one bit of a class's code; the nearest code is the class."""
    said = table.graph.node("Concat", *(_of_second(writer, one, table) for one in model.estimators_), axis=1)
    place = nearest(table.graph, said, np.asarray(model.code_book_, np.float64))
    return {"label": named(table, model.classes_, place)}


COMPOSED: dict[str, Callable[["Writer", Any, Table], Outputs]] = {
    "TransformedTargetRegressor": _transformed_target,
    "FixedThresholdClassifier": _fixed_threshold,
    "TunedThresholdClassifierCV": _tuned_threshold,
    "VotingClassifier": _voting_classifier,
    "VotingRegressor": _voting_regressor,
    "StackingClassifier": _stacking_classifier,
    "StackingRegressor": _stacking_regressor,
    "CalibratedClassifierCV": _calibrated_classifier,
    "MultiOutputRegressor": _multi_output_regressor,
    "MultiOutputClassifier": _multi_output_classifier,
    "ClassifierChain": _classifier_chain,
    "RegressorChain": _regressor_chain,
    "BaggingClassifier": _bagging_classifier,
    "BaggingRegressor": _bagging_regressor,
    "SelfTrainingClassifier": _self_training,
    "OneVsRestClassifier": _one_vs_rest,
    "OneVsOneClassifier": _one_vs_one,
    "OutputCodeClassifier": _output_code,
}
