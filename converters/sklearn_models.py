"""scikit-learn's models that skl2onnx has not, or gives other answers of: of neighbours, centres, kernels and lines, as
ONNX in double precision.

In the process of a conversion alone. Models of models are sklearn_composed.py's, trees sklearn_trees.py's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from converters.converter import require
from converters.sklearn_boosters import Outputs, by_sign, chosen, named, of_two
from converters.sklearn_distances import dense, differences, kernel, nearest, number, products, squares, summed
from converters.sklearn_table import Table, interpolated, ones_like

METRICS = ("euclidean", "manhattan")
MAX_APART = 2_000_000  # numbers that each row is compared with one by one: 16 MB of memory a row


def is_known(model: Any) -> bool:
    """Whether it is fitted, and written here."""
    name = type(model).__name__
    if name not in WRITERS or not type(model).__module__.startswith("sklearn."):
        return False
    if name.startswith("KNeighbors"):
        if getattr(model, "outputs_2d_", False) or getattr(model, "effective_metric_", "") not in METRICS:
            return False
        return model.weights == "distance" or (model.weights == "uniform" and hasattr(model._fit_X, "toarray"))
    if name == "SGDClassifier":
        return model.loss == "modified_huber" and hasattr(model, "coef_")
    if name == "MLPClassifier":
        return hasattr(model, "coefs_") and has_flags(model)
    return any(hasattr(model, word) for word in FITTED)


FITTED = ("coef_", "centroids_", "cluster_centers_", "subcluster_centers_", "dual_coef_", "location_", "n_outputs_",
          "X_thresholds_")  # fmt: skip


def has_flags(model: Any) -> bool:
    """Whether a net says of each of several labels whether it holds."""
    return getattr(model, "out_activation_", "") == "logistic" and model.n_outputs_ > 1


def written(model: Any, table: Table) -> Outputs:
    """Of a model that is_known()."""
    return WRITERS[type(model).__name__](model, table)


# Neighbours and centres.


def _neighbours(model: Any, table: Table, values: Any) -> tuple[str, str]:
    """[rows, columns of `values`]: the sum over the neighbours, by how near each is; [rows, 1] of the weights."""
    graph, x = table.graph, table.matrix()
    kept, taken = dense(model._fit_X), graph.constant(np.array([model.n_neighbors], np.int64))
    if model.effective_metric_ == "euclidean":
        far = squares(graph, x, kept)
    else:
        require(kept.size <= MAX_APART, f"neighbours by the Manhattan distance among {len(kept)} rows of "
                f"{kept.shape[1]} columns take too much memory: use metric='euclidean', or fewer rows")  # fmt: skip
        apart = graph.node("Abs", differences(graph, x, number(graph, kept)))
        far = graph.node("ReduceSum", apart, graph.constant(np.array([2], np.int64)), keepdims=0)
    places = graph.second("TopK", far, taken, axis=1, largest=0, sorted=1)
    held = graph.node("Gather", number(graph, values), places, axis=0)
    if model.weights == "uniform":
        alike = graph.node("ReduceSum", held, graph.constant(np.array([1], np.int64)), keepdims=0)
        return alike, number(graph, float(model.n_neighbors))
    # From the differences again: a row that was kept is at a distance of zero, not of what rounding left.
    apart = differences(graph, x, graph.node("Gather", number(graph, kept), places, axis=0))
    operator = "ReduceL2" if model.effective_metric_ == "euclidean" else "ReduceL1"
    distance = graph.node(operator, apart, graph.constant(np.array([2], np.int64)), keepdims=0)
    same = graph.node("Equal", distance, number(graph, 0.0))
    inverse = graph.node("Div", number(graph, 1.0), graph.node("Where", same, number(graph, 1.0), distance))
    flags = graph.cast(same, np.float64)
    any_same = graph.node("Greater", summed(graph, flags), number(graph, 0.0))
    weights = graph.node("Where", any_same, flags, inverse)
    weighted = graph.node("Mul", held, graph.node("Unsqueeze", weights, graph.constant(np.array([2], np.int64))))
    return graph.node("ReduceSum", weighted, graph.constant(np.array([1], np.int64)), keepdims=0), summed(
        graph, weights
    )


def _neighbours_classifier(model: Any, table: Table) -> Outputs:
    votes, total = _neighbours(model, table, np.eye(len(model.classes_))[model._y.ravel()])
    return {"label": chosen(table, model.classes_, votes), "probabilities": table.graph.node("Div", votes, total)}


def _neighbours_regressor(model: Any, table: Table) -> Outputs:
    values = model._y.reshape(len(model._y), -1)
    return {"variable": table.graph.node("Div", *_neighbours(model, table, values))}


def _nearest_centroid(model: Any, table: Table) -> Outputs:
    even = bool(np.isclose(model.class_prior_, 1 / len(model.classes_)).all())
    require(even and model.metric == "euclidean", "NearestCentroid is converted with metric='euclidean' and equal "
            "priors alone: use LinearDiscriminantAnalysis")  # fmt: skip
    return {"label": named(table, model.classes_, nearest(table.graph, table.matrix(), dense(model.centroids_)))}


def _centres(model: Any, table: Table) -> Outputs:
    return {"label": nearest(table.graph, table.matrix(), np.asarray(model.cluster_centers_, np.float64))}


def _birch(model: Any, table: Table) -> Outputs:
    place = nearest(table.graph, table.matrix(), np.asarray(model.subcluster_centers_, np.float64))
    return {"label": named(table, np.asarray(model.subcluster_labels_), place)}


def _kernel_ridge(model: Any, table: Table) -> Outputs:
    settings = model.kernel_params or {word: getattr(model, word) for word in ("gamma", "degree", "coef0")}
    near = kernel(table.graph, table.matrix(), dense(model.X_fit_), model.kernel, settings)
    coefficients = model.dual_coef_.reshape(model.X_fit_.shape[0], -1)
    return {"variable": table.graph.node("MatMul", near, number(table.graph, coefficients))}


# Lines.


def _line(model: Any, table: Table, x: str) -> str:
    sums = products(table.graph, x, np.atleast_2d(np.asarray(model.coef_, np.float64)))
    return table.graph.node("Add", sums, number(table.graph, np.reshape(model.intercept_, (1, -1))))


def _discriminant(model: Any, table: Table) -> Outputs:
    scores = _line(model, table, table.matrix())
    if len(model.classes_) == 2:
        return {
            "label": by_sign(table, model.classes_, scores, "Greater"),
            "probabilities": of_two(table.graph, scores),
        }
    likely = table.graph.node("Softmax", scores, axis=1)
    return {"label": chosen(table, model.classes_, scores), "probabilities": likely}


def _huber(model: Any, table: Table) -> Outputs:
    """The score from -1 to 1 as a share, of several classes over their sum; all alike where each has none."""
    graph, count = table.graph, len(model.classes_)
    scores, one = _line(model, table, table.matrix()), number(table.graph, 1.0)
    held = graph.node("Max", graph.node("Min", scores, one), number(graph, -1.0))
    shares = graph.node("Mul", graph.node("Add", held, one), number(graph, 0.5))
    if count == 2:
        both = graph.node("Concat", graph.node("Sub", one, shares), shares, axis=1)
        return {"label": by_sign(table, model.classes_, scores, "Greater"), "probabilities": both}
    total = summed(graph, shares)
    none = graph.node("Equal", total, number(graph, 0.0))
    over = graph.node("Div", shares, graph.node("Where", none, one, total))
    likely = graph.node("Where", none, number(graph, np.full((1, count), 1.0 / count)), over)
    return {"label": chosen(table, model.classes_, scores), "probabilities": likely}


def _latent(model: Any, table: Table) -> Outputs:
    centred = table.graph.node("Sub", table.matrix(), number(table.graph, model._x_mean))
    return {"variable": _line(model, table, centred)}


def _isotonic(model: Any, table: Table) -> Outputs:
    graph, x = table.graph, table.matrix()
    known, values = np.asarray(model.X_thresholds_, np.float64), np.asarray(model.y_thresholds_, np.float64)
    value = interpolated(graph, x, known, values)
    if model.out_of_bounds == "clip":
        return {"variable": value}
    outside = graph.node("Or", graph.node("Less", x, number(graph, known[0])),
                         graph.node("Greater", x, number(graph, known[-1])))  # fmt: skip
    return {"variable": graph.node("Where", outside, number(graph, np.nan), value)}


def _ellipse(model: Any, table: Table) -> Outputs:
    graph = table.graph
    centred = graph.node("Sub", table.matrix(), number(graph, model.location_))
    turned = graph.node("MatMul", centred, number(graph, model.get_precision()))
    scores = graph.node("Neg", summed(graph, graph.node("Mul", turned, centred)))
    value = graph.node("Sub", scores, number(graph, model.offset_))
    return {"label": by_sign(table, np.array([-1, 1]), value, "GreaterOrEqual"), "scores": value}


def _net(model: Any, table: Table) -> Outputs:
    graph, value = table.graph, table.matrix()
    between = {"identity": "Identity", "logistic": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}[model.activation]
    for at, (weights, offsets) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        value = graph.node("Add", graph.node("MatMul", value, number(graph, weights)), number(graph, offsets))
        value = graph.node("Sigmoid" if at == len(model.coefs_) - 1 else between, value)
    above = graph.node("Greater", value, number(graph, 0.5))
    return {"label": graph.cast(above, np.int64), "probabilities": value}


# Constants.


def _dummy_classifier(model: Any, table: Table) -> Outputs:
    require(model.strategy in ("prior", "most_frequent", "constant"), f"DummyClassifier(strategy={model.strategy!r}) "
            "draws its answers: use 'prior'")  # fmt: skip
    require(model.n_outputs_ == 1, "DummyClassifier is converted with one label alone")
    row = np.zeros((1, table.width))
    graph, classes = table.graph, np.asarray(model.classes_)
    ones = ones_like(graph, table.matrix(), np.float64)
    likely = graph.node("Mul", ones, number(graph, model.predict_proba(row)))
    said = number(graph, (classes == model.predict(row)[0]).astype(np.float64).reshape(1, -1))
    return {"label": chosen(table, classes, graph.node("Mul", ones, said)), "probabilities": likely}


def _dummy_regressor(model: Any, table: Table) -> Outputs:
    ones = ones_like(table.graph, table.matrix(), np.float64)
    value = model.predict(np.zeros((1, table.width))).reshape(1, -1)
    return {"variable": table.graph.node("Mul", ones, number(table.graph, value))}


WRITERS: dict[str, Callable[[Any, Table], Outputs]] = {
    "KNeighborsClassifier": _neighbours_classifier, "KNeighborsRegressor": _neighbours_regressor,
    "NearestCentroid": _nearest_centroid, "MeanShift": _centres, "AffinityPropagation": _centres, "Birch": _birch,
    "KernelRidge": _kernel_ridge, "LinearDiscriminantAnalysis": _discriminant, "SGDClassifier": _huber, "CCA": _latent,
    "PLSCanonical": _latent, "IsotonicRegression": _isotonic, "EllipticEnvelope": _ellipse,
    "MLPClassifier": _net, "DummyClassifier": _dummy_classifier, "DummyRegressor": _dummy_regressor,
}  # fmt: skip
