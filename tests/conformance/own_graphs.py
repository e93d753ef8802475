"""Graphs of our own: inputs that may be missing, outputs that are inputs, control flow, answers of any size.

No answers here: bare onnxruntime gives them.
"""

import numpy as np
from graphs import Feed, case, floats, graph
from onnx import TensorProto, helper
from onnx_collection import Case


def graph_cases() -> list[Case]:
    return [*_inputs_and_outputs(), *_control_flow(), *_answers_whose_shape_depends_on_values()]


def _inputs_and_outputs() -> list[Case]:
    x, two = {"x": floats(3)}, np.array([2.0], np.float32)
    optional = "g (float[N] x, float[1] w) => (float[N] y) <float[1] w = {5.0}> {y = Mul(x, w)}"
    sparse = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        sparse_initializer=[
            helper.make_sparse_tensor(
                helper.make_tensor("w", TensorProto.FLOAT, [2], [1.5, -2.0]),
                helper.make_tensor("at", TensorProto.INT64, [2], [1, 4]),
                [3, 2],
            )
        ],
    )
    sparse_model = helper.make_model(sparse, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    function = """g (float[N] x) => (float[N] y) {y = here.twice(x)}
<domain: "here", opset_import: ["" : 21]> twice (a) => (b) {b = Add(a, a)}"""
    return [
        graph("optional-by-initialiser", optional, x, {**x, "w": two}),
        graph("optional-two-of-three", _THREE_OPTIONAL, x, {**x, "b": two}, {**x, "a": two, "b": two}),
        graph("initialised-input-before-ir-4", optional, x, head='<ir_version: 3, opset_import: ["" : 8]>\n'),
        graph("no-inputs", "g () => (float[2] y) {y = Constant<value = float[2] {1, 2}>()}", {}),
        graph("no-inputs-strings", 'g () => (string[2] y) {y = Constant<value_strings = ["a", "ü"]>()}', {}),
        graph(
            "unused-input",
            "g (float[N] x, int64[2] idle) => (float[N] y) {y = Neg(x)}",
            {**x, "idle": np.array([1, 2])},
        ),
        graph("output-is-the-input", "g (float[N] x) => (float[N] x) {}", x),
        graph("output-is-an-input-too", "g (float[N] x) => (float[N] y, float[N] x) {y = Neg(x)}", x),
        graph("output-named-twice", "g (float[N] x) => (float[N] y, float[N] y) {y = Neg(x)}", x),
        graph(
            "output-is-an-initialiser",
            "g (float[N] x) => (float[N] y, float[2] w) <float[2] w = {1, 2}> {y = Neg(x)}",
            x,
        ),
        graph("two-equal-outputs", "g (float[N] x) => (float[N] y, float[N] z) {y = Neg(x) \n z = Identity(y)}", x),
        graph(
            "optional-outputs",
            "g (float[N,3] x) => (float[N,1] v, int64[N,1] i) <int64[1] k = {1}> {v, i = TopK(x, k)}",
            {"x": floats(2, 3)},
        ),
        graph(
            "second-output-alone",
            "g (float[N,3] x) => (int64[N,1] i) <int64[1] k = {1}> {v, i = TopK(x, k)}",
            {"x": floats(2, 3)},
        ),
        graph("lstm-optional-inputs-and-outputs", _LSTM, {"x": floats(5, 2, 3)}, {"x": floats(1, 1, 3)}),
        graph("thirty-inputs", *_many(30)),
        graph("own-function", function, x),
        graph("microsoft-operator", "g (float[N] x) => (float[N] y) {y = com.microsoft.Gelu(x)}", x),
        graph("labels-from-strings", _LABELS, {"x": np.array([["cat"], ["dog"], ["ünknown"]], object)}),
        case("sparse-initialiser", sparse_model, {"x": floats(2, 3)}),
    ]


_THREE_OPTIONAL = """g (float[N] x, float[1] a, float[1] b) => (float[N] y)
<float[1] a = {3}, float[1] b = {7}> {t = Mul(x, a) \n y = Add(t, b)}"""
_LSTM = """g (float[S,B,3] x) => (float[1,B,2] last)
<int64[3] a = {1, 8, 3}, int64[3] b = {1, 8, 2}> {w = ConstantOfShape<value = float[1] {0.25}>(a)
r = ConstantOfShape<value = float[1] {-0.5}>(b) \n all, last = LSTM<hidden_size = 2>(x, w, r)}"""
_LABELS = """g (string[N,1] x) => (int64[N,1] y)
{y = ai.onnx.ml.LabelEncoder<keys_strings = ["cat", "dog"], values_int64s = [7, 9], default_int64 = -1>(x)}"""


def _many(count: int) -> tuple[str, Feed]:
    names = [f"x{index}" for index in range(count)]
    inputs = ", ".join(f"float[N] {name}" for name in names)
    feed = {name: floats(3, seed=index) for index, name in enumerate(names)}
    return f"g ({inputs}) => (float[N] y) {{y = Sum({', '.join(names)})}}", feed


def _control_flow() -> list[Case]:
    branch = """g (float[N] x, bool c) => (float[M] y) { y = If (c)
<then_branch = a () => (float[M] t) {t = Neg(x)}, else_branch = b () => (float[M] e) {e = Concat<axis = 0>(x, x)}>}"""
    loop = """g (float[N] x, int64 n) => (float[N] y) <bool go = {1}> { y = Loop (n, go, x)
<body = b (int64 i, bool c, float[N] v) => (bool d, float[N] w) {d = Identity(c) \n w = Add(v, v)}>}"""
    scan = """g (float[S,2] x) => (float[2] last, float[S,2] sums) <float[2] zero = {0, 0}> { last, sums = Scan
<num_scan_inputs = 1, body = b (float[2] a, float[2] v) => (float[2] t, float[2] u) {t = Add(a, v) \n u = Identity(t)}>
(zero, x)}"""
    yes, no = np.array(True), np.array(False)
    return [
        graph("if", branch, {"x": floats(3), "c": yes}, {"x": floats(3), "c": no}, {"x": floats(0), "c": no}),
        graph("loop", loop, *({"x": floats(3), "n": np.array(n)} for n in (0, 1, 5))),
        graph("scan", scan, {"x": floats(4, 2)}, {"x": floats(1, 2)}),
    ]


def _answers_whose_shape_depends_on_values() -> list[Case]:
    x = np.array([0, 3, 0, 5, 3], np.float32)
    none = np.zeros(3, np.float32)
    split = "g (string[N] x) => (string[N,M] parts, int64[N] n) {parts, n = StringSplit(x)}"
    texts = np.array(["a b c", "", "ü"], object)
    return [
        graph("nonzero", "g (float[N] x) => (int64[1,M] y) {y = NonZero(x)}", {"x": x}, {"x": none}, {"x": none[:0]}),
        graph("unique", "g (float[N] x) => (float[M] y, int64[M] at) {y, at = Unique(x)}", {"x": x}, {"x": none}),
        graph(
            "range",
            "g (int64 n) => (int64[N] y) <int64 a = {0}, int64 d = {1}> {y = Range(a, n, d)}",
            *({"n": np.array(n)} for n in (0, 1, 7)),
        ),
        graph(
            "fills",
            "g (int64[R] shape) => (float[A,B] y) {y = ConstantOfShape(shape)}",
            *({"shape": np.array(s)} for s in ([2, 3], [0, 4], [1, 1])),
        ),
        graph(
            "reshapes",
            "g (float[N] x, int64[R] shape) => (float[A,B] y) {y = Reshape(x, shape)}",
            {"x": floats(6), "shape": np.array([2, -1])},
            {"x": floats(6), "shape": np.array([4, 4])},
        ),
        graph("string-split", split, {"x": texts}, {"x": texts[1:2]}, {"x": texts[:0]}),
        graph(
            "string-concat",
            "g (string[N] x, string[N] y) => (string[N] z) {z = StringConcat(x, y)}",
            {"x": texts, "y": texts},
        ),
        graph(
            "all-dropped",
            "g (float[N,2] x, bool[N] c) => (float[M,2] y) {y = Compress<axis = 0>(x, c)}",
            {"x": floats(2, 2), "c": np.array([False, False])},
        ),
    ]
