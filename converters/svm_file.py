"""LibSVM's and LIBLINEAR's model files, read into arrays. Pure.

Sources: svm.cpp (svm_save_model) and linear.cpp (save_model) of the two libraries.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError

MAX_FEATURES = 1_000_000
MAX_NUMBERS = 200_000_000

Array = NDArray[np.float64]

_KERNELS = ("linear", "polynomial", "rbf", "sigmoid")
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "polynomial": ("degree", "gamma", "coef0"),
    "rbf": ("gamma",),
    "sigmoid": ("gamma", "coef0"),
}
_TYPES = ("c_svc", "nu_svc", "one_class", "epsilon_svr", "nu_svr")


class Svm(NamedTuple):
    """`coefficients` [classes - 1, vectors], `counts` of the vectors of each class, in the order of `labels`."""

    kind: str
    kernel: str
    degree: int
    gamma: float
    coef0: float
    labels: tuple[int, ...]
    counts: tuple[int, ...]
    rho: Array
    prob_a: Array
    prob_b: Array
    coefficients: Array
    vectors: Array

    @property
    def classifies(self) -> bool:
        return self.kind in ("c_svc", "nu_svc")


class Linear(NamedTuple):
    """`weights` [features, columns]; `bias` is the value of one feature more, whose weights are the last row, or -1."""

    solver: str
    labels: tuple[int, ...]
    bias: float
    rho: float
    weights: Array

    @property
    def regresses(self) -> bool:
        return "SVR" in self.solver

    @property
    def has_probabilities(self) -> bool:
        return self.solver.endswith("R_LR") or self.solver == "L2R_LR_DUAL"


def _header(lines: list[str], ends: str) -> tuple[dict[str, list[str]], int]:
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines):
        words = line.split()
        if words[:1] == [ends]:
            return found, number + 1
        if words:
            found[words[0]] = words[1:]
    raise RefusedError(f"the file is cut short: it has no line '{ends}'")


def _numbers(header: dict[str, list[str]], key: str) -> Array:
    try:
        found = np.array([float(word) for word in header.get(key, [])])
    except ValueError:
        raise RefusedError(f"'{key}' of the file holds what is no number") from None
    if not np.isfinite(found).all():
        raise RefusedError(f"'{key}' of the file is not finite: the training has failed")
    return found


def _labels(header: dict[str, list[str]]) -> tuple[int, ...]:
    found = _numbers(header, "label")
    if (found != np.floor(found)).any():
        raise RefusedError("the file's labels are no integers, which is all that the library knows")
    return tuple(int(value) for value in found)


def _number(header: dict[str, list[str]], key: str, default: float = 0.0) -> float:
    found = _numbers(header, key)
    return float(found[0]) if len(found) else default


def read_svm(text: str) -> Svm:
    """Raises RefusedError where the file is damaged or of a kind that cannot be converted."""
    lines = text.splitlines()
    header, start = _header(lines, "SV")
    kind, kernel = (" ".join(header.get(key, [])) for key in ("svm_type", "kernel_type"))
    if kind not in _TYPES:
        raise RefusedError(f"svm_type '{kind[:40]}' is not known: expected one of {', '.join(_TYPES)}")
    if kernel not in _KERNELS:
        raise RefusedError(
            f"kernel_type '{kernel[:40]}' takes kernel values instead of features, so no model can be made of it: "
            "train with linear, polynomial, rbf or sigmoid"
        )
    total = int(_number(header, "total_sv"))
    rows = [line.split() for line in lines[start:] if line.strip()]
    if len(rows) != total or not rows:
        raise RefusedError(f"the file is cut short: it says {total} support vectors and has {len(rows)}")
    classes = max(2, int(_number(header, "nr_class", 2)))
    labels = _labels(header)
    counts = tuple(int(value) for value in _numbers(header, "nr_sv"))
    rho, (prob_a, prob_b) = _numbers(header, "rho"), (_numbers(header, key) for key in ("probA", "probB"))
    is_classifier = kind in ("c_svc", "nu_svc")
    pairs = classes * (classes - 1) // 2 if is_classifier else 1
    if len(rho) != pairs or (
        is_classifier and (len(labels) != classes or len(counts) != classes or sum(counts) != total)
    ):
        raise RefusedError("the file's header does not fit together: rho, label and nr_sv do not go with nr_class")
    if is_classifier and {len(prob_a), len(prob_b)} not in ({0}, {pairs}):
        raise RefusedError(
            "the file's header does not fit together: probA and probB are not one for each pair of classes"
        )
    lacking = [key for key in _PARAMETERS[kernel] if key not in header]
    if lacking:
        raise RefusedError(f"the file does not say the {' and '.join(lacking)} of its kernel '{kernel}': save it again")
    width = classes - 1 if is_classifier else 1
    coefficients, vectors = _vectors(rows, width)
    degree, gamma, coef0 = (_number(header, key) for key in ("degree", "gamma", "coef0"))
    return Svm(kind, kernel, int(degree), gamma, coef0, labels, counts, rho, prob_a, prob_b, coefficients, vectors)


def _vectors(rows: list[list[str]], width: int) -> tuple[Array, Array]:
    try:
        coefficients = np.array([[float(word) for word in row[:width]] for row in rows]).T
        sparse = [[(int(i), float(v)) for i, v in (word.split(":", 1) for word in row[width:])] for row in rows]
    except ValueError:
        raise RefusedError("a support vector cannot be read: expected coefficients, then index:value pairs") from None
    features = max((index for row in sparse for index, _ in row), default=0)
    if not 0 < features <= MAX_FEATURES or features * len(rows) > MAX_NUMBERS:
        raise RefusedError(
            f"{len(rows)} support vectors of {features} features are none, or more than can be converted"
        )
    if not np.isfinite(coefficients).all() or not all(math.isfinite(value) for row in sparse for _, value in row):
        raise RefusedError("a support vector holds what is not finite: the training has failed")
    vectors = np.zeros((len(rows), features))
    for number, row in enumerate(sparse):
        for index, value in row:
            if index < 1:
                raise RefusedError(f"feature {index} cannot be: LibSVM counts them from 1")
            vectors[number, index - 1] = value
    return coefficients, vectors


def read_linear(text: str) -> Linear:
    """Raises RefusedError where the file is damaged."""
    lines = text.splitlines()
    header, start = _header(lines, "w")
    solver = " ".join(header.get("solver_type", []))
    classes, features = int(_number(header, "nr_class", 2)), int(_number(header, "nr_feature"))
    bias = _number(header, "bias", -1.0)
    labels = _labels(header)
    try:
        weights = np.array([[float(word) for word in line.split()] for line in lines[start:] if line.strip()])
    except ValueError:
        raise RefusedError("the weights cannot be read: expected rows of equally many numbers") from None
    columns = 1 if classes == 2 and solver != "MCSVM_CS" else classes
    if weights.shape != (features + (bias >= 0), columns):
        raise RefusedError(f"the file is cut short: it says {features} features, and has weights of {weights.shape}")
    return Linear(solver, labels, bias, _number(header, "rho"), weights)


def decisions(model: Svm, x: Array) -> Array:
    """The decision values [rows, pairs], by the library's own formulas."""
    kernel = kernel_values(model, x)
    if not model.classifies:
        return kernel @ model.coefficients.T - model.rho
    starts = np.cumsum((0, *model.counts))
    columns = []
    for pair, (i, j) in enumerate(pairs_of(model)):
        first, second = (slice(starts[c], starts[c + 1]) for c in (i, j))
        value = kernel[:, first] @ model.coefficients[j - 1, first] + kernel[:, second] @ model.coefficients[i, second]
        columns.append(value - model.rho[pair])
    return np.stack(columns, axis=1)


def kernel_values(model: Svm, x: Array) -> Array:
    if model.kernel == "rbf":
        return np.stack([np.exp(-model.gamma * ((x - v) ** 2).sum(axis=1)) for v in model.vectors], axis=1)
    dot: Array = x @ model.vectors.T
    if model.kernel == "polynomial":
        return np.asarray((model.gamma * dot + model.coef0) ** model.degree)
    return np.tanh(model.gamma * dot + model.coef0) if model.kernel == "sigmoid" else dot


def pairs_of(model: Svm) -> list[tuple[int, int]]:
    count = len(model.labels)
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def pairwise_probabilities(model: Svm, decided: Array) -> Any:
    """[rows, classes, classes]: how likely i is against j (sigmoid_predict, bounded away from 0 and 1)."""
    count = len(model.labels)
    likely = np.zeros((len(decided), count, count))
    for pair, (i, j) in enumerate(pairs_of(model)):
        p = 1 / (1 + np.exp(model.prob_a[pair] * decided[:, pair] + model.prob_b[pair]))
        likely[:, i, j] = np.clip(p, 1e-7, 1 - 1e-7)
        likely[:, j, i] = 1 - likely[:, i, j]
    return likely


def coupled(likely: Any) -> Array:
    """Class probabilities from pairwise ones (multiclass_probability): Wu, Lin and Weng 2004, the second approach."""
    rows, count, _ = likely.shape
    if count == 2:
        return np.stack([likely[:, 0, 1], likely[:, 1, 0]], axis=1)
    out = np.zeros((rows, count))
    for row in range(rows):
        out[row] = _coupled_row(likely[row], count)
    return out


def _coupled_row(likely: Any, count: int) -> Array:
    q = np.zeros((count, count))
    for t in range(count):
        q[t, t] = sum(likely[j, t] ** 2 for j in range(count) if j != t)
        for j in range(count):
            if j != t:
                q[t, j] = -likely[j, t] * likely[t, j]
    p = np.full(count, 1 / count)
    for _ in range(max(100, count)):
        qp = q @ p
        pqp = p @ qp
        if np.abs(qp - pqp).max() < 0.005 / count:
            break
        for t in range(count):
            step = (-qp[t] + pqp) / q[t, t]
            p[t] += step
            pqp = (pqp + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p = p / (1 + step)
    return p
