"""What scikit-learn's transformers do to columns, written as ONNX in double precision, as it reckons itself.

In the process of a conversion alone. What is not here skl2onnx writes (sklearn_foreign.py).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import sklearn_imputers, sklearn_maps, sklearn_splines
from converters.converter import require
from converters.sklearn_imputers import is_missing_word
from converters.sklearn_table import Block, Table, code_of, interpolated, looked_up, ones_like, reached

Writer = Callable[[Any, Table], Table]

# numpy's functions within a FunctionTransformer or around a target, as ONNX has them.
_OPERATORS = {
    np.log: "Log", np.exp: "Exp", np.sqrt: "Sqrt", np.abs: "Abs", np.negative: "Neg", np.reciprocal: "Reciprocal",
    np.floor: "Floor", np.ceil: "Ceil", np.rint: "Round", np.sign: "Sign", np.sin: "Sin", np.cos: "Cos", np.tan: "Tan",
    np.tanh: "Tanh", np.sinh: "Sinh", np.cosh: "Cosh", np.arctan: "Atan",
}  # fmt: skip


def _constant(table: Table, value: Any) -> str:
    return table.graph.constant(np.asarray(value, np.float64))


def _wide(table: Table, value: str, width: int) -> Table:
    return table.of(Block(value, width))


def function(table: Table, func: Any, value: str, what: str) -> str:
    """A numpy function of a value. Raises RefusedError of any other."""
    graph = table.graph
    for known, operator in _OPERATORS.items():
        if func is known:
            return graph.node(operator, value)
    if func is np.log1p:
        return graph.node("Log", graph.node("Add", value, _constant(table, 1.0)))
    if func is np.expm1:
        return graph.node("Sub", graph.node("Exp", value), _constant(table, 1.0))
    if func is np.square:
        return graph.node("Mul", value, value)
    if func in (np.log2, np.log10):
        return graph.node("Div", graph.node("Log", value), _constant(table, np.log(2 if func is np.log2 else 10)))
    name = getattr(func, "__name__", str(func))
    require(
        False,
        f"{what} holds the function {name}, which cannot be read: use one of numpy's ({', '.join(_known_names())}), or "
        "do it in front of the model",
    )
    raise AssertionError


def _known_names() -> list[str]:
    return sorted({known.__name__ for known in (*_OPERATORS, np.log1p, np.expm1, np.square, np.log2, np.log10)})


def _function(part: Any, table: Table) -> Table:
    if part.func is None:
        return table
    require(not part.kw_args, "FunctionTransformer has arguments for its function (kw_args), which cannot be converted")
    return _wide(table, function(table, part.func, table.matrix(), "FunctionTransformer"), table.width)


def _standard(part: Any, table: Table) -> Table:
    return _scaled(table, part.mean_ if part.with_mean else None, part.scale_ if part.with_std else None)


def _robust(part: Any, table: Table) -> Table:
    return _scaled(table, part.center_ if part.with_centering else None, part.scale_ if part.with_scaling else None)


def _scaled(table: Table, centre: Any, scale: Any) -> Table:
    """Less `centre`, then by `scale`; None: not so."""
    value = table.matrix()
    if centre is not None:
        value = table.graph.node("Sub", value, _constant(table, centre))
    if scale is not None:
        value = table.graph.node("Div", value, _constant(table, scale))
    return _wide(table, value, table.width)


def _min_max(part: Any, table: Table) -> Table:
    graph = table.graph
    value = graph.node("Mul", table.matrix(), _constant(table, part.scale_))
    value = graph.node("Add", value, _constant(table, part.min_))
    if part.clip:
        low, high = part.feature_range
        value = graph.node("Max", graph.node("Min", value, _constant(table, high)), _constant(table, low))
    return _wide(table, value, table.width)


def _max_abs(part: Any, table: Table) -> Table:
    value = table.graph.node("Div", table.matrix(), _constant(table, part.scale_))
    require(not getattr(part, "clip", False), "MaxAbsScaler(clip=True) is not converted: use MinMaxScaler(clip=True)")
    return _wide(table, value, table.width)


def _binarizer(part: Any, table: Table) -> Table:
    above = table.graph.node("Greater", table.matrix(), _constant(table, part.threshold))
    return _wide(table, table.graph.cast(above, np.float64), table.width)


def _one_hot(part: Any, table: Table) -> Table:
    made = []
    for at, (column, categories) in enumerate(zip(table.columns(), part.categories_, strict=True)):
        places, width = _one_hot_places(part, at, len(categories))
        place = looked_up(table.graph, code_of(table, column, categories), places)
        numbers = table.graph.constant(np.arange(width, dtype=np.int64).reshape(1, -1))
        made.append(Block(table.graph.cast(table.graph.node("Equal", place, numbers), np.float64), width))
    return table.of(*made)


def _one_hot_places(part: Any, at: int, count: int) -> tuple[NDArray[np.int64], int]:
    """The column of each category and of an unknown one, -1 for none, and how many columns there are."""
    grouping = _grouping(part, at, count)
    places = np.r_[grouping, -1]
    rare = part._infrequent_indices[at] if part._infrequent_enabled else None
    if rare is not None and part.handle_unknown in ("infrequent_if_exist", "warn"):
        places[-1] = grouping[rare[0]]
    dropped = part._drop_idx_after_grouping[at] if part._drop_idx_after_grouping is not None else None
    if dropped is not None:
        places = np.where(places == dropped, -1, np.where(places > dropped, places - 1, places))
    return places, int(grouping.max(initial=-1)) + 1 - (dropped is not None)


def _grouping(part: Any, at: int, count: int) -> NDArray[np.int64]:
    mapping = part._default_to_infrequent_mappings[at] if part._infrequent_enabled else None
    return np.arange(count, dtype=np.int64) if mapping is None else np.asarray(mapping, np.int64)


def _ordinal(part: Any, table: Table) -> Table:
    made = []
    for at, (column, categories) in enumerate(zip(table.columns(), part.categories_, strict=True)):
        unknown = part.unknown_value if part.handle_unknown == "use_encoded_value" else np.nan
        values = np.r_[_grouping(part, at, len(categories)).astype(np.float64), float(unknown)]
        for place, item in enumerate(categories):
            if is_missing_word(item):
                values[place] = float(part.encoded_missing_value)
        made.append(Block(looked_up(table.graph, code_of(table, column, categories), values), 1))
    return table.of(*made)


def _target(part: Any, table: Table) -> Table:
    means = np.ravel(part.target_mean_)
    classes = len(means) if part.target_type_ == "multiclass" else 1
    codes = [code_of(table, *pair) for pair in zip(table.columns(), part.categories_, strict=True)]
    made = []
    for at, encoding in enumerate(part.encodings_):
        values = np.r_[np.asarray(encoding, np.float64), means[at % classes]]
        made.append(Block(looked_up(table.graph, codes[at // classes], values), 1))
    return table.of(*made)


def _bins(part: Any, table: Table) -> Table:
    graph, made = table.graph, []
    for column, edges, count in zip(table.columns(), part.bin_edges_, part.n_bins_, strict=True):
        place = graph.cast(reached(table, column.value, np.asarray(edges[1:-1], np.float64)), np.float64)
        if part.encode != "ordinal":
            numbers = _constant(table, np.arange(int(count)).reshape(1, -1))
            place = graph.cast(graph.node("Equal", place, numbers), np.float64)
        made.append(Block(place, 1 if part.encode == "ordinal" else int(count)))
    return table.of(*made)


BOUNDS_THRESHOLD = 1e-7  # sklearn.preprocessing._data's


def _quantiles(part: Any, table: Table) -> Table:
    require(not table.is_sparse, "QuantileTransformer behind a sparse matrix leaves its zeros as they are, which is "
            "not converted: use MaxAbsScaler, or make the matrix dense in front of it")  # fmt: skip
    graph, references, made = table.graph, np.asarray(part.references_, np.float64), []
    is_normal = part.output_distribution == "normal"
    for at, column in enumerate(table.columns()):
        x, known = column.value, np.asarray(part.quantiles_[:, at], np.float64)
        up = interpolated(graph, x, known, references)
        down = interpolated(graph, graph.node("Neg", x), -known[::-1], -references[::-1])
        value = graph.node("Mul", graph.node("Sub", up, down), _constant(table, 0.5))
        if is_normal:
            top = graph.node("Greater", graph.node("Add", x, _constant(table, BOUNDS_THRESHOLD)),
                             _constant(table, known[-1]))  # fmt: skip
            bottom = graph.node("Less", graph.node("Sub", x, _constant(table, BOUNDS_THRESHOLD)),
                                _constant(table, known[0]))  # fmt: skip
        else:
            top = graph.node("Equal", x, _constant(table, known[-1]))
            bottom = graph.node("Equal", x, _constant(table, known[0]))
        value = graph.node("Where", top, _constant(table, 1.0), value)
        value = graph.node("Where", bottom, _constant(table, 0.0), value)
        made.append(Block(_normal_quantile(table, value) if is_normal else value, 1))
    return table.of(*made)


# P. J. Acklam's approximation of the normal distribution's quantiles, whose relative error is below 1.2e-9.
_MIDDLE = (-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.3577518672690, -30.66479806614716,
           2.506628277459239)  # fmt: skip
_MIDDLE_BELOW = (-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1.0)
_TAIL = (-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
         2.938163982698783)  # fmt: skip
_TAIL_BELOW = (0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1.0)
_TAIL_SHARE = 0.02425


def _normal_quantile(table: Table, share: str) -> str:
    from scipy.stats import norm

    graph = table.graph
    centred = graph.node("Sub", share, _constant(table, 0.5))
    square = graph.node("Mul", centred, centred)
    middle = graph.node("Mul", centred, _ratio(table, square, _MIDDLE, _MIDDLE_BELOW))
    # Of the nearer end, never zero: what is clipped below would be infinite.
    nearer = graph.node("Sub", _constant(table, 0.5), graph.node("Abs", centred))
    kept = graph.node("Max", nearer, _constant(table, 1e-12))
    root = graph.node("Sqrt", graph.node("Mul", graph.node("Log", kept), _constant(table, -2.0)))
    tail = _ratio(table, root, _TAIL, _TAIL_BELOW)
    signed = graph.node("Where", graph.node("Less", centred, _constant(table, 0.0)), tail, graph.node("Neg", tail))
    in_tail = graph.node("Less", nearer, _constant(table, _TAIL_SHARE))
    value = graph.node("Where", in_tail, signed, middle)
    low = float(norm.ppf(BOUNDS_THRESHOLD - np.spacing(1)))
    high = float(norm.ppf(1 - (BOUNDS_THRESHOLD - np.spacing(1))))
    return graph.node("Max", graph.node("Min", value, _constant(table, high)), _constant(table, low))


def _ratio(table: Table, x: str, above: Sequence[float], below: Sequence[float]) -> str:
    return table.graph.node("Div", _horner(table, x, above), _horner(table, x, below))


def _horner(table: Table, x: str, coefficients: Sequence[float]) -> str:
    """The polynomial of these coefficients, the highest power first."""
    value = _constant(table, coefficients[0])
    for coefficient in coefficients[1:]:
        value = table.graph.node("Add", table.graph.node("Mul", value, x), _constant(table, coefficient))
    return value


def _polynomial(part: Any, table: Table) -> Table:
    """Each output is a product of as many columns as the degree, ones among them."""
    graph, width = table.graph, table.width
    value = table.matrix()
    padded = graph.node("Concat", value, ones_like(graph, value, np.float64), axis=1)
    factors = [np.repeat(np.arange(width), powers) for powers in part.powers_]
    degree = max(len(factor) for factor in factors)
    places = np.array([np.r_[factor, np.full(degree - len(factor), width)] for factor in factors], np.int64)
    product = graph.node("Gather", padded, graph.constant(places[:, 0].copy()), axis=1)
    for at in range(1, degree):
        other = graph.node("Gather", padded, graph.constant(places[:, at].copy()), axis=1)
        product = graph.node("Mul", product, other)
    return _wide(table, product, len(factors))


def _power(part: Any, table: Table) -> Table:
    made = []
    for column, power in zip(table.columns(), part.lambdas_, strict=True):
        write = _box_cox if part.method == "box-cox" else _yeo_johnson
        made.append(Block(write(table, column.value, float(power)), 1))
    powered = table.of(*made)
    return _standard(part._scaler, powered) if part.standardize else powered


def _box_cox(table: Table, x: str, power: float) -> str:
    graph = table.graph
    if power == 0:
        return graph.node("Log", x)
    raised = graph.node("Sub", graph.node("Pow", x, _constant(table, power)), _constant(table, 1.0))
    return graph.node("Div", raised, _constant(table, power))


def _yeo_johnson(table: Table, x: str, power: float) -> str:
    graph, one = table.graph, _constant(table, 1.0)
    # Each side sees only what is its own, so that no power is taken of a negative number.
    up = graph.node("Add", graph.node("Max", x, _constant(table, 0.0)), one)
    down = graph.node("Sub", one, graph.node("Min", x, _constant(table, 0.0)))
    above = _box_cox(table, up, 0.0 if abs(power) < np.spacing(1.0) else power)
    below = _box_cox(table, down, 0.0 if abs(power - 2) <= np.spacing(1.0) else 2.0 - power)
    return graph.node("Where", graph.node("GreaterOrEqual", x, _constant(table, 0.0)), above, graph.node("Neg", below))


def frequencies(part: Any, table: Table) -> Table:
    """What a TfidfTransformer makes of counts."""
    graph, value = table.graph, table.matrix()
    zero, one = _constant(table, 0.0), _constant(table, 1.0)
    if part.sublinear_tf:
        some = graph.node("Greater", value, zero)
        logged = graph.node("Add", graph.node("Log", graph.node("Max", value, one)), one)
        value = graph.node("Where", some, logged, value)
    if part.use_idf:
        value = graph.node("Mul", value, _constant(table, part.idf_))
    if part.norm:
        along = graph.constant(np.array([1], np.int64))
        operator = {"l1": "ReduceL1", "l2": "ReduceL2"}[part.norm]
        length = graph.node(operator, value, along, keepdims=1)
        value = graph.node("Div", value, graph.node("Where", graph.node("Equal", length, zero), one, length))
    return _wide(table, value, table.width)


def _selection(part: Any, table: Table) -> Table:
    return table.taken([int(place) for place in np.flatnonzero(part.get_support())])


WRITERS: dict[str, Writer] = {
    "StandardScaler": _standard, "RobustScaler": _robust, "MinMaxScaler": _min_max, "MaxAbsScaler": _max_abs,
    "Binarizer": _binarizer, "SimpleImputer": sklearn_imputers.simple,
    "MissingIndicator": sklearn_imputers.indicated, "KNNImputer": sklearn_imputers.by_neighbours,
    "OneHotEncoder": _one_hot, "OrdinalEncoder": _ordinal, "TargetEncoder": _target, "KBinsDiscretizer": _bins,
    "QuantileTransformer": _quantiles, "SplineTransformer": sklearn_splines.written, "PowerTransformer": _power,
    "FunctionTransformer": _function, "PolynomialFeatures": _polynomial,
    "TfidfTransformer": frequencies,
}  # fmt: skip


def writer_of(part: Any) -> Writer | None:
    if hasattr(part, "get_support") and not hasattr(part, "predict"):
        return _selection
    name = type(part).__name__
    return WRITERS.get(name, sklearn_maps.WRITERS.get(name)) if type(part).__module__.startswith("sklearn.") else None


def places_of(wanted: Any, names: Sequence[str], count: int) -> list[int]:
    """The columns that a column transformer picks: by name, number, slice or mask."""
    if isinstance(wanted, slice):
        if isinstance(wanted.start, str) or isinstance(wanted.stop, str):
            start = 0 if wanted.start is None else list(names).index(wanted.start)
            stop = count if wanted.stop is None else list(names).index(wanted.stop) + 1
            return list(range(start, stop))
        return list(range(count))[wanted]
    items = [wanted] if isinstance(wanted, str | int | np.integer) else list(wanted)
    if items and isinstance(items[0], bool | np.bool_):
        return [index for index, flag in enumerate(items) if flag]
    return [list(names).index(item) if isinstance(item, str) else int(item) % count for item in items]
