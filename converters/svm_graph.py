"""Support vector machines as ONNX operators, in double precision.

In the process of a conversion. Sources: LibSVM's svm.cpp (svm_predict_values, svm_predict_probability), LIBLINEAR's
linear.cpp (predict_values).
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from converters.column_graph import ColumnGraph
from converters.svm_file import Linear, Svm, pairs_of


def write_svm(svm: Svm, target: Path) -> None:
    g = ColumnGraph()
    x = g.column("x", "FP64", svm.vectors.shape[1])
    kernel = _kernel(g, svm, x)
    decided = g.node("Sub", g.node("MatMul", kernel, g.value(_by_pair(svm))), g.value(svm.rho))
    if svm.kind == "one_class":
        _sign(g, decided)
    elif svm.classifies:
        _votes(g, svm, decided)
        if len(svm.prob_a):
            g.give("probabilities", _probabilities(g, svm, decided), "FP64", len(svm.labels))
    else:
        g.give("value", g.shaped(decided, [-1]), "FP64")
        g.save(target)
        return
    g.give("decision", decided, "FP64", len(svm.rho))
    g.save(target)


def _kernel(g: ColumnGraph, svm: Svm, x: str) -> str:
    dot = g.node("MatMul", x, g.value(svm.vectors.T))
    if svm.kernel == "linear":
        return dot
    if svm.kernel == "rbf":
        squares = g.node("ReduceSum", g.node("Mul", x, x), g.value([1], "INT64"), keepdims=1)
        norms = g.value((svm.vectors**2).sum(axis=1)[None])
        distance = g.node("Sub", g.node("Add", squares, norms), g.node("Mul", dot, g.value(2.0)))
        distance = g.node("Max", distance, g.value(0.0))  # what rounding left below
        return g.node("Exp", g.node("Mul", distance, g.value(-svm.gamma)))
    scaled = g.node("Add", g.node("Mul", dot, g.value(svm.gamma)), g.value(svm.coef0))
    return g.node("Tanh", scaled) if svm.kernel == "sigmoid" else g.node("Pow", scaled, g.value(float(svm.degree)))


def _by_pair(svm: Svm) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Coefficients [vectors, pairs]: each pair looks at the vectors of its two classes alone."""
    if not svm.classifies:
        return svm.coefficients.T
    starts = np.cumsum((0, *svm.counts))
    columns = np.zeros((len(svm.vectors), len(svm.rho)))
    for pair, (i, j) in enumerate(pairs_of(svm)):
        first, second = (slice(starts[c], starts[c + 1]) for c in (i, j))
        columns[first, pair] = svm.coefficients[j - 1, first]
        columns[second, pair] = svm.coefficients[i, second]
    return columns


def _sign(g: ColumnGraph, decided: str) -> None:
    above = g.node("Greater", g.shaped(decided, [-1]), g.value(0.0))
    g.give("label", g.node("Where", above, g.value(1, "INT64"), g.value(-1, "INT64")), "INT64")


def _votes(g: ColumnGraph, svm: Svm, decided: str) -> None:
    pairs = pairs_of(svm)
    first, second = np.zeros((2, len(pairs), len(svm.labels)))
    for pair, (i, j) in enumerate(pairs):
        first[pair, i], second[pair, j] = 1, 1
    won = g.to(g.node("Greater", decided, g.value(0.0)), "FP64")
    lost = g.node("Sub", g.value(1.0), won)
    votes = g.node("Add", g.node("MatMul", won, g.value(first)), g.node("MatMul", lost, g.value(second)))
    best = g.node("ArgMax", votes, axis=1, keepdims=0)
    g.give("label", g.node("Gather", g.value(svm.labels, "INT64"), best), "INT64")


def _probabilities(g: ColumnGraph, svm: Svm, decided: str) -> str:
    pairs, count = pairs_of(svm), len(svm.labels)
    slope = g.node("Add", g.node("Mul", decided, g.value(svm.prob_a)), g.value(svm.prob_b))
    likely = g.node("Reciprocal", g.node("Add", g.value(1.0), g.node("Exp", slope)))
    likely = g.node("Min", g.node("Max", likely, g.value(1e-7)), g.value(1 - 1e-7))
    unlikely = g.node("Sub", g.value(1.0), likely)
    if count == 2:
        return g.node("Concat", likely, unlikely, axis=1)
    # r[t, j]: how likely t is against j; taken from the pairs by two matrices of zeros and ones.
    upper, lower = np.zeros((2, len(pairs), count * count))
    for pair, (i, j) in enumerate(pairs):
        upper[pair, i * count + j] = lower[pair, j * count + i] = 1
    r = g.node("Add", g.node("MatMul", likely, g.value(upper)), g.node("MatMul", unlikely, g.value(lower)))
    r = g.shaped(r, [-1, count, count])
    turned = g.node("Transpose", r, perm=[0, 2, 1])
    diagonal = g.node("ReduceSum", g.node("Mul", turned, turned), g.value([2], "INT64"), keepdims=1)
    q = g.node("Sub", g.node("Mul", diagonal, g.value(np.eye(count))), g.node("Mul", turned, r))
    start = g.node(
        "Add",
        g.node("Mul", g.node("ReduceSum", r, g.value([2], "INT64"), keepdims=0), g.value(0.0)),
        g.value(1 / count),
    )
    yes = g.value(True, "BOOL")
    p, _ = g.loop(max(100, count), yes, [start, q], _turn(count))
    return p


def _turn(count: int) -> onnx.GraphProto:
    """One turn of Wu, Lin and Weng's second approach, for every row that has not come to rest; those that have stay."""
    b = ColumnGraph("turn")
    column = b.node("Unsqueeze", "p", b.value([2], "INT64"))
    qp = b.node("Squeeze", b.node("MatMul", "q", column), b.value([2], "INT64"))
    pqp = b.node("ReduceSum", b.node("Mul", "p", qp), b.value([1], "INT64"), keepdims=1)
    apart = b.node("Abs", b.node("Sub", qp, pqp))
    error = b.node("ReduceMax", apart, b.value([1], "INT64"), keepdims=1)
    moves = b.node("GreaterOrEqual", error, b.value(0.005 / count))
    p, one = "p", b.value(1.0)
    for t in range(count):
        at, after = b.value([t], "INT64"), b.value([t + 1], "INT64")
        row = b.node("Squeeze", b.node("Slice", "q", at, after, b.value([1], "INT64")), b.value([1], "INT64"))
        qtt = b.node("Slice", row, at, after, b.value([1], "INT64"))
        qpt = b.node("Slice", qp, at, after, b.value([1], "INT64"))
        step = b.node("Div", b.node("Sub", pqp, qpt), qtt)
        grown = b.node("Add", one, step)
        inner = b.node("Add", b.node("Mul", step, qtt), b.node("Mul", b.value(2.0), qpt))
        pqp = b.node("Div", b.node("Add", pqp, b.node("Mul", step, inner)), b.node("Mul", grown, grown))
        qp = b.node("Div", b.node("Add", qp, b.node("Mul", step, row)), grown)
        unit = b.value(np.eye(count)[t][None])
        p = b.node("Div", b.node("Add", p, b.node("Mul", step, unit)), grown)
    b.name(b.node("Where", moves, p, "p"), "p_next")
    b.name("q", "q_next")
    anyone = b.node("ReduceMax", b.to(moves, "INT64"), keepdims=0)
    b.name(b.to(anyone, "BOOL"), "go_on")
    info = helper.make_tensor_value_info
    return b.body(
        "turn",
        [
            info("turn", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("p", TensorProto.DOUBLE, None),
            info("q", TensorProto.DOUBLE, None),
        ],
        [
            info("go_on", TensorProto.BOOL, []),
            info("p_next", TensorProto.DOUBLE, None),
            info("q_next", TensorProto.DOUBLE, None),
        ],
    )


def write_linear(linear: Linear, target: Path) -> None:
    g = ColumnGraph()
    features = linear.weights.shape[0] - (linear.bias >= 0)
    x = g.column("x", "FP64", features)
    decided = g.node("MatMul", x, g.value(linear.weights[:features]))
    shift = -linear.rho + (linear.bias * linear.weights[-1] if linear.bias >= 0 else np.zeros(linear.weights.shape[1]))
    decided = g.node("Add", decided, g.value(shift))
    columns = linear.weights.shape[1]
    if linear.regresses:
        g.give("value", g.shaped(decided, [-1]), "FP64")
        g.save(target)
        return
    if linear.solver == "ONECLASS_SVM":
        _sign(g, decided)
    else:
        _linear_classes(g, linear, decided, columns)
    g.give("decision", decided, "FP64", columns)
    g.save(target)


def _linear_classes(g: ColumnGraph, linear: Linear, decided: str, columns: int) -> None:
    if columns == 1:
        above = g.node("Greater", g.shaped(decided, [-1]), g.value(0.0))
        label = g.node("Where", above, g.value(linear.labels[0], "INT64"), g.value(linear.labels[1], "INT64"))
    else:
        label = g.node("Gather", g.value(linear.labels, "INT64"), g.node("ArgMax", decided, axis=1, keepdims=0))
    g.give("label", label, "INT64")
    if linear.has_probabilities:
        likely = g.node("Sigmoid", decided)
        if columns == 1:
            likely = g.node("Concat", likely, g.node("Sub", g.value(1.0), likely), axis=1)
        else:
            total = g.node("ReduceSum", likely, g.value([1], "INT64"), keepdims=1)
            likely = g.node("Div", likely, total)
        g.give("probabilities", likely, "FP64", len(linear.labels))
