"""Models of our own for what the collection lacks: every dtype with its extremes, every rank, free and fixed sizes,
names that need quoting; and those of `own_graphs`.

No answers here: bare onnxruntime gives them.
"""

import numpy as np
from graphs import Array, case, floats, graph
from onnx import TensorProto, helper
from onnx_collection import Case
from own_graphs import graph_cases

# V2's name, ONNX's name in text form, numpy's name, some elements that are hard to carry.
_INTEGERS = [(f"{u.upper()}INT{bits}", f"{u}int{bits}", f"{u}int{bits}") for u in ("u", "") for bits in (8, 16, 32, 64)]
_FLOATS = [("FP16", "float16", "float16"), ("FP32", "float", "float32"), ("FP64", "double", "float64")]
HARD_TEXTS = [
    "",
    "plain",
    "héllo wörld",
    "日本語",
    "😀 and 👩‍👩‍👧",
    "two\nlines\ttab",
    'quo"te \\ back',
    "nul\0inside",
    "x" * 70_000,
]


def hard_elements(dtype: str) -> Array:
    """Elements of a V2 dtype that go wrong first, as a vector."""
    if dtype == "BYTES":
        return np.array([*HARD_TEXTS, ""], object)
    if dtype == "BOOL":
        return np.array([True, False, False, True])
    if dtype == "BF16":  # one, minus two, infinities, not a number, zero and minus zero, the smallest and largest
        return np.array([0x3F80, 0xC000, 0x7F80, 0xFF80, 0x7FC0, 0, 0x8000, 0x0001, 0x7F7F], np.uint16)
    numpy_name = {name: numpy for name, _, numpy in (*_INTEGERS, *_FLOATS)}[dtype]
    if numpy_name.startswith("float"):
        limits = np.finfo(numpy_name)
        odd = [0.0, -0.0, 1.0, 1 / 3, limits.max, limits.min, limits.tiny, limits.smallest_subnormal]
        return np.array([*odd, np.inf, -np.inf, np.nan], numpy_name)
    bounds = np.iinfo(numpy_name)
    return np.array([bounds.min, bounds.max, 0, 1, bounds.max // 3], numpy_name)


DTYPES = {
    "BOOL": "bool",
    **{name: text for name, text, _ in (*_INTEGERS, *_FLOATS)},
    "BF16": "bfloat16",
    "BYTES": "string",
}


def own_cases() -> list[Case]:
    """All of them; names are unique."""
    return [
        *_dtypes(),
        *_shapes(),
        *_names(),
        *graph_cases(),
    ]


def _dtypes() -> list[Case]:
    cases = []
    for dtype, onnx_name in DTYPES.items():
        hard = hard_elements(dtype)
        feeds = [
            {"x": hard},
            {"x": hard[:1]},
            {"x": hard[:0]},
        ]
        cases.append(
            graph(f"vector-{dtype}", f"g ({onnx_name}[N] x) => ({onnx_name}[N] y) {{y = Identity(x)}}", *feeds)
        )
        scalars = [{"x": hard[index : index + 1].reshape(())} for index in range(min(4, hard.size))]
        cases.append(
            graph(f"scalar-{dtype}", f"g ({onnx_name}[] x) => ({onnx_name}[] y) {{y = Identity(x)}}", *scalars)
        )
        table = np.resize(hard, (3, 2, 2))
        text = f"g ({onnx_name}[N,2,M] x) => ({onnx_name}[P,2,Q] y) {{y = Transpose<perm=[2,1,0]>(x)}}"
        cases.append(graph(f"turned-{dtype}", text, {"x": table}, {"x": table[:, :, :0]}))
    narrow = "g (bfloat16[N] x) => (float[N] wide, bfloat16[N] y) {wide = Cast<to=1>(x) \n y = Cast<to=16>(wide)}"
    cases.append(graph("bf16-computes", narrow, {"x": hard_elements("BF16")}, {"x": np.empty(0, np.uint16)}))
    bits, texts = hard_elements("BF16")[:3], np.array(["a", "", "ü"], object)
    strings_in = "g (bfloat16[N] b, string[N] s) => (string[N] t, float[N] c) {t = Identity(s) \n c = Cast<to=1>(b)}"
    strings_out = 'g (bfloat16[N] b) => (string[2] t, bfloat16[N] c) <string[2] t = {"a", "b"}> {c = Identity(b)}'
    both = "g (bfloat16[N] b, string[N] s) => (string[N] t, bfloat16[N] c) {t = Identity(s) \n c = Identity(b)}"
    cases.append(graph("bf16-and-strings-in", strings_in, {"b": bits, "s": texts}))
    cases.append(graph("bf16-and-strings-out", strings_out, {"b": bits}))
    # Python's onnxruntime has no way to run this one: the node must say so.
    cases.append(graph("strings-in-and-bf16-out", both, {"b": bits, "s": texts}))
    every = ", ".join(f"{onnx_name}[N] in_{dtype}" for dtype, onnx_name in DTYPES.items() if dtype != "BF16")
    given = {f"in_{dtype}": hard_elements(dtype)[:3] for dtype in DTYPES if dtype != "BF16"}
    outs = every.replace("in_", "out_")
    lines = " \n ".join(f"out_{d} = Identity(in_{d})" for d in DTYPES if d != "BF16")
    cases.append(graph("every-dtype-at-once", f"g ({every}) => ({outs}) {{{lines}}}", given))
    return cases


def _shapes() -> list[Case]:
    cases = []
    for rank in range(9):
        free = ",".join(f"D{axis}" for axis in range(rank))
        perm = list(reversed(range(rank)))
        text = f"g (float[{free}] x) => (float[{','.join(f'E{a}' for a in range(rank))}] y) "
        body = f"{{y = Transpose<perm={perm}>(x)}}" if rank else "{y = Neg(x)}"
        shapes: list[list[int]] = [[1] * rank, [(2, 1, 3)[axis % 3] for axis in range(rank)]]
        if rank:
            shapes += [[0, *[2] * (rank - 1)], [*[2] * (rank - 1), 0]]
        cases.append(graph(f"rank-{rank}", text + body, *({"x": floats(*shape)} for shape in shapes)))
    for label, declared, sizes in (
        ("fixed", "2,3", [(2, 3)]),
        ("fixed-first", "2,N", [(2, 3), (2, 1), (2, 0)]),
        ("fixed-last", "N,3", [(2, 3), (1, 3), (0, 3)]),
        ("fixed-middle", "N,3,M", [(2, 3, 4), (0, 3, 0)]),
        ("same-name-twice", "N,N", [(2, 2), (2, 3)]),
        ("fixed-empty", "0,3", [(0, 3)]),
        ("one-row", "1,N", [(1, 5), (1, 1)]),
    ):
        text = f"g (float[{declared}] x) => (float[{declared}] y) {{y = Abs(x)}}"
        cases.append(graph(f"sizes-{label}", text, *({"x": floats(*shape)} for shape in sizes)))
    for label, shape in (("unnamed", [None, 3]), ("unknown-rank", None)):
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
        made = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        feeds = [{"x": floats(2, 3)}, {"x": floats(1, 3)}]
        if shape is None:
            feeds += [{"x": floats()}, {"x": floats(4)}, {"x": floats(2, 1, 0, 3)}]
        cases.append(case(f"sizes-{label}", model, *feeds))
    scalars = "g (float x, float[N] y) => (float[N] z, int64 n) {z = Mul(x, y) \n n = Size(z)}"
    cases.append(graph("scalar-beside-vector", scalars, *({"x": floats(), "y": floats(n)} for n in (3, 1, 0))))
    large = {"x": floats(600, 1000)}
    cases.append(graph("large", "g (float[N,1000] x) => (float[N,1000] y) {y = Neg(x)}", large))
    return cases


ODD_NAMES = [
    "with space",
    "serving/default:0",
    "eingabe-ü",
    "入力",
    "😀",
    'quo"te',
    "apo'strophe",
    "back\\slash",
    "a,b;c",
    "%41?&#",
    "<b>",
    "line\nbreak",
    "x" * 2000,
    " ",
    "0",
    "__proto__",
    "Inference-Header-Content-Length",
]


def _names() -> list[Case]:
    cases = []
    for position, name in enumerate(ODD_NAMES):
        other = f"{name}!"
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in (name, other)]
        made = helper.make_graph([helper.make_node("Neg", [name], [other])], "g", values[:1], values[1:])
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        cases.append(case(f"odd-name-{position}", model, {name: floats(3)}))
    return cases
