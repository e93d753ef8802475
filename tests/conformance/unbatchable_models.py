"""Models whose first dimension is free, each with eight unlike inputs to be sent at once: batching must not show.

In most of them the first dimension is no batch axis, or only looks like one to somebody who tries a few small inputs.
"""

from collections.abc import Callable

import numpy as np
from graphs import Array, Feed, floats, graph
from onnx_collection import Case

CALLS = 8
ROWS = (1, 3, 2, 7, 5, 1, 4, 12)


def rows_independent() -> list[Case]:
    """Models whose rows may share a run, slow enough that calls wait while another runs: the check of the check."""
    table = "float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}"
    dense = _slow("float[N,4] x", "float[N,2]", "MatMul(x, w)", table)
    embed = _slow("int64[N,L] i", "float[N,L,2]", "Gather(w, i)", "float[5,2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0}")
    words = _slow("string[N] s, string[N] t", "string[N]", "StringConcat(s, t)")
    return [
        graph("dense", dense, *_feeds(lambda n, k: {"x": floats(n, 4, seed=k)})),
        graph("embedding-of-sequences", embed, *_feeds(lambda n, k: {"i": _integers(n, 1 + k % 3, seed=k) % 5})),
        graph("strings", words, *_feeds(lambda n, k: {"s": _texts(n, k), "t": _texts(n, k + 50)})),
        graph("bf16", _slow("bfloat16[N,2] x", "bfloat16[N,2]", "Identity(x)"), *_feeds(_bits)),
        graph("empty-batches-among-others", dense, *_feeds(lambda n, k: {"x": floats(n % 3, 4, seed=k)})),
    ]


def _slow(inputs: str, kind: str, expression: str, initialiser: str = "float w = {0}") -> str:
    """A graph that counts to a few thousand before it computes, in one loop for all rows."""
    return f"""g ({inputs}) => ({kind} y)
<int64 n = {{4000}}, bool go = {{1}}, int64 o = {{1}}, int64 z = {{0}}, {initialiser}>
{{c = Loop (n, go, z) <body = b (int64 j, bool k, int64 v) => (bool l, int64 u) {{l = Identity(k) \n u = Add(v, o)}}>
d = Greater(c, z) \n y = If (d) <then_branch = t () => ({kind} p) {{p = {expression}}},
else_branch = e () => ({kind} q) {{q = {expression}}}>}}"""


def rows_dependent() -> list[Case]:
    """Models in which a row's answer, or the number of rows, depends on the rest of its own call."""
    table = _feeds(lambda n, k: {"x": floats(n, 4, seed=k)})
    vector = _feeds(lambda n, k: {"x": floats(n, seed=k)})
    pair = _feeds(lambda n, k: {"x": floats(n, 4, seed=k), "y": floats(1 + k % 3, 4, seed=k + 9)})
    cases = [graph(name, f"g (float[N,4] x) => ({out}) {body}", *table) for name, out, body in _TABLES]
    cases += [graph(name, f"g (float[N] x) => ({out}) {body}", *vector) for name, out, body in _VECTORS]
    cases += [graph(name, f"g (float[N,4] x, float[M,4] y) => ({out}) {body}", *pair) for name, out, body in _PAIRS]
    one = "g (float[N,4] x, float[M,4] y) => (float[P,4] z) {z = Add(x, y)}"
    where = "g (bool[M,1] c, float[N,4] x, float[M,4] y) => (float[P,4] z) {z = Where(c, x, y)}"
    return [
        *cases,
        graph("one-row-for-all", one, *_feeds(lambda n, k: {"x": floats(n, 4, seed=k), "y": floats(1, 4, seed=k + 9)})),
        graph("one-row-chooses-for-all", where, *_feeds(_choices)),
        graph("picks-rows", "g (float[N,4] x, int64[M] i) => (float[M,4] z) {z = Gather(x, i)}", *_feeds(_picks)),
        graph("as-many-picks", "g (float[N,4] x, int64[N] i) => (float[N,4] z) {z = Gather(x, i)}", *_feeds(_order)),
        graph("scalar-for-all", "g (float[N,4] x, float t) => (float[N,4] z) {z = Mul(x, t)}", *_feeds(_scaled(()))),
        graph(
            "vector-for-all", "g (float[N,4] x, float[1] t) => (float[N,4] z) {z = Mul(x, t)}", *_feeds(_scaled((1,)))
        ),
        graph("how-many-to-keep", _KEEP, *_feeds(_tops)),
        graph("optional-input-sometimes", _OPTIONAL, *_feeds(_sometimes)),
        graph("regions-of-pictures", _REGIONS, *_feeds(_regions)),
        graph("times-to-repeat", "g (float[N,4] x, int64[2] r) => (float[P,Q] y) {y = Tile(x, r)}", *_feeds(_repeats)),
        graph("wide-rows-mix", _WIDE, *_feeds(lambda n, k: {"x": floats(n, 3, seed=k)})),
        graph("large-values-mix", _LARGE, *_feeds(lambda n, k: {"x": floats(n, 4, seed=k) * 1000})),
        graph("distinct-words", "g (string[N] s) => (string[M] t) {t = Unique(s)}", *_feeds(_words)),
        graph("unlike-signs-mix", _SIGNS, *_feeds(lambda n, k: {"x": abs(floats(n, 4, seed=k)) * (-1) ** k})),
        graph("recurrent-over-rows", _RECURRENT, *_feeds(lambda n, k: {"x": floats(n, 1, 2, seed=k)})),
        graph("attention-among-rows", _ATTENTION, *_feeds(lambda n, k: {"x": floats(n, 4, seed=k)})),
    ]


_TABLES = [
    ("softmax-over-rows", "float[N,4] y", "{y = Softmax<axis = 0>(x)}"),
    ("running-sum", "float[N,4] y", "<int64 a = {0}> {y = CumSum(x, a)}"),
    ("sum-to-scalar", "float y", "{y = ReduceSum<keepdims = 0>(x)}"),
    ("mean-of-rows", "float[1,4] y", "<int64[1] a = {0}> {y = ReduceMean(x, a)}"),
    ("centred-rows", "float[N,4] y", "<int64[1] a = {0}> {m = ReduceMean(x, a) \n y = Sub(x, m)}"),
    ("places-of-values", "int64[2,M] y", "{r = Relu(x) \n y = NonZero(r)}"),
    ("sorted-rows", "float[N,4] v, int64[N,4] i", "{n = Shape<start = 0, end = 1>(x) \n v, i = TopK<axis = 0>(x, n)}"),
    ("turned", "float[4,N] y", "{y = Transpose(x)}"),
    ("every-row-with-every-row", "float[N,N] y", "{t = Transpose(x) \n y = MatMul(x, t)}"),
    (
        "rows-backwards",
        "float[N,4] y",
        "<int64[1] a = {-1}, int64[1] b = {-99}, int64[1] c = {0}> {y = Slice(x, a, b, c, a)}",
    ),
    ("its-shape", "int64[2] y", "{y = Shape(x)}"),
    ("each-row-twice", "float[M,4] y", "<int64[2] r = {2, 1}> {y = Tile(x, r)}"),
    ("first-row", "float[1,4] y", "<int64[1] a = {0}, int64[1] b = {1}> {y = Slice(x, a, b)}"),
    ("largest-row", "int64[1,4] y", "{y = ArgMax<axis = 0>(x)}"),
    ("one-scale-for-all", "uint8[N,4] q, float s, uint8 z", "{q, s, z = DynamicQuantizeLinear(x)}"),
    ("quantised-and-back", "float[N,4] y", "{q, s, z = DynamicQuantizeLinear(x) \n y = DequantizeLinear(q, s, z)}"),
    ("a-row-and-a-total", "float[N,4] y, float[1,4] t", "<int64[1] a = {0}> {y = Neg(x) \n t = ReduceSum(x, a)}"),
    ("at-most-nine-rows", "float[M,4] y", "<int64[1] a = {0}, int64[1] b = {9}> {y = Slice(x, a, b)}"),
    ("two-axes-in-one", "float[M] y", "<int64[1] s = {-1}> {y = Reshape(x, s)}"),
    (
        "numbered-rows",
        "float[N,4] y",
        """<int64 a = {0}, int64 d = {1}, int64[1] u = {1}>
{s = Shape<start = 0, end = 1>(x) \n n = Squeeze(s)
r = Range(a, n, d) \n f = Cast<to = 1>(r) \n c = Unsqueeze(f, u) \n y = Add(x, c)}""",
    ),
    (
        "many-rows-mix",
        "float[N,4] y",
        """<int64 l = {6}, int64[1] a = {0}>
{n = Shape<start = 0, end = 1>(x) \n c = Greater(n, l)
y = If (c) <then_branch = t () => (float[N,4] v) {m = ReduceMean(x, a) \n v = Sub(x, m)},
else_branch = e () => (float[N,4] w) {w = Identity(x)}>}""",
    ),
]
_VECTORS = [
    (
        "differences",
        "float[M] y",
        """<int64[1] a = {1}, int64[1] b = {99999}, int64[1] c = {0}, int64[1] d = {-1}>
{p = Slice(x, a, b) \n q = Slice(x, c, d) \n y = Sub(p, q)}""",
    ),
    ("distinct-values", "float[M] y", "{r = Round(x) \n y = Unique(r)}"),
    ("wanted-values", "float[M] y", "<float z = {0}> {c = Greater(x, z) \n y = Compress(x, c)}"),
    (
        "outer-product",
        "float[N,N] y",
        """<int64[1] a = {0}, int64[1] b = {1}>
{p = Unsqueeze(x, a) \n q = Unsqueeze(x, b) \n y = Mul(p, q)}""",
    ),
    ("norm", "float[1] y", "{y = ReduceL2(x)}"),
]
_PAIRS = [
    ("joined", "float[P,4] z", "{z = Concat<axis = 0>(x, y)}"),
    ("distances", "float[N,M] z", "{t = Transpose(y) \n z = MatMul(x, t)}"),
    (
        "attends-to-others",
        "float[N,4] z",
        """{t = Transpose(y) \n m = MatMul(x, t)
s = Softmax<axis = 1>(m) \n z = MatMul(s, y)}""",
    ),
    ("each-for-itself", "float[N,4] a, float[M,4] b", "{a = Neg(x) \n b = Abs(y)}"),
]
_KEEP = "g (float[N,4] x, int64[1] k) => (float[N,K] v, int64[N,K] i) {v, i = TopK(x, k)}"
_OPTIONAL = "g (float[N,4] x, float[1] w) => (float[N,4] y) <float[1] w = {3}> {y = Mul(x, w)}"
# Alike for rows of one column, where softmax gives 1.
_WIDE = """g (float[N,L] x) => (float[N,L] y) <int64[1] a = {0}>
{s = Softmax<axis = 1>(x) \n m = ReduceMax(s, a) \n y = Div(s, m)}"""
# The norm of all rows is brought down to 100 where it is greater.
_LARGE = """g (float[N,4] x) => (float[N,4] y) <float[1] l = {100}>
{n = ReduceL2<keepdims = 0>(x) \n m = Max(n, l) \n s = Div(l, m) \n y = Mul(x, s)}"""
_SIGNS = """g (float[N,4] x) => (float[N,4] y) {s = Sign(x) \n m = ReduceMax(s) \n y = Mul(x, m)}"""
_REGIONS = """g (float[N,1,4,4] x, float[R,4] r, int64[R] i) => (float[R,1,2,2] y)
{y = RoiAlign<output_height = 2, output_width = 2>(x, r, i)}"""
_RECURRENT = """g (float[S,1,2] x) => (float[S,1,1,2] y)
<float[1,2,2] w = {0.5, 0.25, -0.5, 1}, float[1,2,2] r = {1, 0.5, 0, 1}> {y = RNN<hidden_size = 2>(x, w, r)}"""
_ATTENTION = """g (float[S,4] x) => (float[S,4] y)
{t = Transpose(x) \n m = MatMul(x, t) \n s = Softmax<axis = 1>(m) \n y = MatMul(s, x)}"""


def _feeds(make: Callable[[int, int], Feed]) -> list[Feed]:
    return [make(rows, call) for call, rows in enumerate(ROWS)]


def _integers(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 100, shape)


def _texts(rows: int, seed: int) -> Array:
    return np.array([*(f"{seed}·{row}" * (row % 3) for row in range(rows)), ""], object)[:-1]


def _words(rows: int, call: int) -> Feed:
    return {"s": np.array([*(f"{(row + call) % 4}" for row in range(rows)), ""], object)[:-1]}


def _bits(rows: int, call: int) -> Feed:
    return {"x": (floats(rows, 2, seed=call).view(np.uint32) >> 16).astype(np.uint16)}


def _choices(rows: int, call: int) -> Feed:
    return {"c": np.array([[call % 2 == 0]]), "x": floats(rows, 4, seed=call), "y": floats(1, 4, seed=call + 9)}


def _picks(rows: int, call: int) -> Feed:
    return {"x": floats(rows, 4, seed=call), "i": _integers(1 + call % 3, seed=call) % rows}


def _order(rows: int, call: int) -> Feed:
    return {"x": floats(rows, 4, seed=call), "i": np.arange(rows)[::-1].copy()}


def _scaled(shape: tuple[int, ...]) -> Callable[[int, int], Feed]:
    return lambda rows, call: {"x": floats(rows, 4, seed=call), "t": np.full(shape, call + 2, np.float32)}


def _tops(rows: int, call: int) -> Feed:
    return {"x": floats(rows, 4, seed=call), "k": np.array([1 + call % 4])}


def _sometimes(rows: int, call: int) -> Feed:
    feed = {"x": floats(rows, 4, seed=call)}
    return {**feed, "w": np.array([call], np.float32)} if call % 2 else feed


def _regions(rows: int, call: int) -> Feed:
    corners = np.sort(_integers(rows, 2, 2, seed=call) % 4, axis=1).reshape(rows, 4).astype(np.float32)
    return {"x": floats(1, 1, 4, 4, seed=call), "r": corners, "i": np.zeros(rows, np.int64)}


def _repeats(rows: int, call: int) -> Feed:
    return {"x": floats(rows, 4, seed=call), "r": np.array([1 + call % 2, 1 + call % 3])}
