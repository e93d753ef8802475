"""scikit-learn: fitted estimators and pipelines from skops files, and with --trust from pickles and joblib's.

skl2onnx writes the graph, with what it gets wrong set right or refused: see `_check()` and `_options()`. Answers are
compared with the original in double precision, as its users call it.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Conversion, Converter, Feed, Say, require
from converters.detected import Detected
from converters.options import Options

if TYPE_CHECKING:
    from converters.sklearn_inputs import Inputs

OPSETS = {"": 18, "ai.onnx.ml": 3}  # IsolationForest takes these and no newer
# Of Python's words, as onnxruntime's tokenizer (RE2) writes them: letters, numbers, the underscore. Two at least.
WORD = r"[\p{L}\p{N}_]{2,}"
PYTHON_WORD = r"(?u)\b\w\w+\b"
LOCALE = "C.UTF-8"  # lower case of all scripts; the plain C locale knows only ASCII
# What skops does not count among its own trusted types: what is in a partial is named beside it.
HARMLESS = ("sklearn.", "numpy.dtype", "functools.partial")
DISTANCES = ("KMeans", "LocalOutlierFactor", "GaussianMixture", "GaussianProcess", "Neighbors", "Birch")
TREES = ("Forest", "Tree", "Boosting", "Bagging")


class SklearnConverter(Converter):
    name: ClassVar[str] = "sklearn"
    extra: ClassVar[str] = "sklearn"
    title: ClassVar[str] = "scikit-learn"
    takes: ClassVar[str] = "skops files of estimators and pipelines; pickles and joblib's files with --trust"
    formats: ClassVar[tuple[str, ...]] = ("skops", "pickle", "joblib")
    modules: ClassVar[tuple[str, ...]] = ("sklearn", "skl2onnx", "skops", "joblib", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters import histogram_trees
        from converters.sklearn_inputs import inputs_of

        say("reading the model")
        model = _loaded(source, detected, options)
        require(hasattr(model, "get_params"), f"the file holds a {type(model).__name__}, which is no estimator")
        if histogram_trees.has_categories(model):
            return histogram_trees.convert(model, folder / "model.onnx")
        _check(model)
        _round_thresholds(model)
        inputs = inputs_of(model)
        reasons: list[str] = []
        best: _Candidate | None = None
        for dtype in _dtypes(model):
            say(f"writing it as ONNX in {np.dtype(dtype).name}")
            try:
                candidate = _written(model, inputs, dtype, folder / "model.onnx")
            except Exception as error:  # whatever skl2onnx raises
                reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
                continue
            best = best or candidate
            if candidate.is_near:
                best = candidate
                break
        if best is None:
            raise RefusedError(f"skl2onnx does not convert this {type(model).__name__}: {reasons[0]}")
        (folder / "model.onnx").write_bytes(best.content)
        return best.conversion


def _dtypes(model: Any) -> tuple[Any, Any]:
    """The inputs' dtypes to try, in order: single precision, but where distances are differences of large squares."""
    from converters.sklearn_inputs import parts

    distances = any(word in type(part).__name__ for part in parts(model) for word in DISTANCES)
    return (np.float64, np.float32) if distances else (np.float32, np.float64)


def _round_thresholds(model: Any) -> None:
    """Trees compare single precision with double thresholds; ONNX has single ones. The next single number below leaves
    the original's answers as they are, and lets ONNX give the same ones for numbers that lie on a threshold."""
    from converters.sklearn_inputs import parts

    for part in parts(model):
        if hasattr(part, "tree_"):
            part.tree_.threshold[:] = _single_below(part.tree_.threshold)
        for stage in getattr(part, "_predictors", ()):
            for predictor in stage:
                predictor.nodes["num_threshold"] = _single_below(predictor.nodes["num_threshold"])
        if hasattr(part, "flatten_transform"):
            part.flatten_transform = False  # it concerns transform() alone, and skl2onnx refuses it
        if type(part).__name__ == "KBinsDiscretizer" and part.encode == "onehot":
            part.encode = "onehot-dense"  # the same numbers, which ONNX has no sparse form of


def _single_below(numbers: Any) -> Any:
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    return np.where(single > numbers, np.nextafter(single, np.float32(-np.inf)), single).astype(np.float64)


class _Candidate(NamedTuple):
    content: bytes
    conversion: Conversion
    is_near: bool


def _loaded(source: Path, detected: Detected, options: Options) -> Any:
    if detected.format != "skops":
        require(options.trusted, "opening it runs code that it brings: save it with skops.io.dump(), or give --trust")
        import joblib

        return joblib.load(source)
    import skops.io

    unknown = skops.io.get_untrusted_types(file=source)
    foreign = [name for name in unknown if not name.startswith(HARMLESS)]
    require(
        options.trusted or not foreign,
        f"the file names types that are neither scikit-learn's nor known to be harmless: {', '.join(foreign[:8])}; "
        "--trust loads them all the same, in the sandbox",
    )
    return skops.io.load(source, trusted=unknown)


def _check(model: Any) -> None:
    """Refuses what skl2onnx is known to convert to something else."""
    from converters import histogram_trees
    from converters.sklearn_inputs import parts

    for part in parts(model):
        name = type(part).__name__
        require(name != "HashingVectorizer", "HashingVectorizer cannot be converted: use TfidfVectorizer")
        if "Vectorizer" in name and hasattr(part, "analyzer"):
            require(part.analyzer == "word", f"{name}(analyzer={part.analyzer!r}) does not split texts alike in ONNX: "
                    "use analyzer='word'")  # fmt: skip
            require(part.strip_accents is None, f"{name}(strip_accents={part.strip_accents!r}) cannot be done in ONNX: "
                    "use strip_accents=None, or strip accents before")  # fmt: skip
            own = [word for word in ("tokenizer", "preprocessor") if getattr(part, word) is not None]
            require(not own, f"{name} has a function of its own as {' and '.join(own)}, which cannot be converted")
            require(part.token_pattern == PYTHON_WORD, f"{name} has a token_pattern of its own, which ONNX may read "
                    "otherwise: use the default")  # fmt: skip
        if name == "SimpleImputer":
            require(not part.add_indicator, "SimpleImputer(add_indicator=True) loses its indicators in ONNX: put a "
                    "MissingIndicator beside it, or train without")  # fmt: skip
        require(not histogram_trees.has_categories(part), f"{name} with categories is converted alone, not within "
                "another model: give its own file")  # fmt: skip
        if name == "FunctionTransformer":
            require(part.func is None, "FunctionTransformer holds a function, which cannot be converted")


def _options(model: Any) -> dict[int, dict[str, Any]]:
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import _converter_pool

    from converters.sklearn_inputs import parts

    all_parts = list(parts(model))
    before_trees = any(word in type(part).__name__ for part in all_parts for word in TREES)
    options: dict[int, dict[str, Any]] = {}
    for part in all_parts:
        alias = sklearn_operator_name_map.get(type(part))
        if any(hasattr(part, name) for name in ("steps", "transformers_", "transformer_list")):
            continue  # it would hand its options down to all of its parts
        registered = _converter_pool.get(alias)
        allowed = registered.get_allowed_options() if registered is not None else None
        if not isinstance(allowed, dict):
            continue
        chosen: dict[str, Any] = {}
        if "zipmap" in allowed:
            chosen["zipmap"] = False
        if "score_samples" in allowed:
            chosen["score_samples"] = True
        if "raw_scores" in allowed and not hasattr(part, "predict_proba"):
            chosen["raw_scores"] = True
        if "div" in allowed and before_trees:
            chosen["div"] = "div_cast"
        if "tokenexp" in allowed:
            chosen["tokenexp"] = WORD
            if "locale" in allowed:
                chosen["locale"] = LOCALE
        if chosen:
            options[id(part)] = chosen
    return options


@contextlib.contextmanager
def _plain_attributes() -> Iterator[None]:
    """numpy's truth values and numbers as Python's own in attributes: protobuf 7 takes no others."""
    from onnx import helper

    original = helper.make_attribute

    def plain(key: str, value: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(value, list | tuple) and value and isinstance(value[0], bool | np.generic):
            value = [
                int(item) if isinstance(item, bool | np.bool_) else getattr(item, "item", lambda i=item: i)()
                for item in value
            ]
        elif isinstance(value, bool | np.bool_):
            value = int(value)
        return original(key, value, *arguments, **named)

    helper.make_attribute = plain
    try:
        yield
    finally:
        helper.make_attribute = original


@contextlib.contextmanager
def _missing_values() -> Iterator[None]:
    """Trees send a missing value where they learned to, which skl2onnx leaves out of all but HistGradientBoosting."""
    import sys

    from skl2onnx.common import tree_ensemble

    original = tree_ensemble.add_tree_to_attribute_pairs

    def with_missing(pairs: Any, is_classifier: Any, tree: Any, *arguments: Any, **named: Any) -> None:
        original(pairs, is_classifier, tree, *arguments, **named)
        learned = tree.missing_go_to_left[: tree.node_count].astype(int).tolist()
        pairs["nodes_missing_value_tracks_true"][-len(learned) :] = learned

    users = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("skl2onnx.") and getattr(module, "add_tree_to_attribute_pairs", None) is original
    ]
    for module in users:
        vars(module)["add_tree_to_attribute_pairs"] = with_missing
    try:
        yield
    finally:
        for module in users:
            vars(module)["add_tree_to_attribute_pairs"] = original


def _written(model: Any, inputs: "Inputs", dtype: Any, path: Path) -> _Candidate:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    from converters.parity import check
    from converters.session import Session

    numbers = FloatTensorType if dtype == np.float32 else DoubleTensorType
    if inputs.kind == "matrix":
        types = [("input", numbers([None, len(inputs.columns)]))]
    else:
        types = [
            (column.name, StringTensorType([None, 1]) if column.is_text else numbers([None, 1]))
            for column in inputs.columns
        ]
    with _plain_attributes(), _missing_values():
        made = convert_sklearn(model, initial_types=types, options=_options(model) or None, target_opset=OPSETS)
    _apply_link(model, made.graph)
    _mend_sublinear(model, made.graph)
    _mend_labels(model, made.graph)
    content = made.SerializeToString()
    path.write_bytes(content)
    session = Session(path)
    rows = _rows_of(model, inputs, dtype)
    shapes = {name: array.shape for name, array in session.run(rows(2, np.random.default_rng(0))).items()}
    conversion = Conversion(path, _answers_of(model, inputs, shapes), rows, _manifest(model, inputs))
    near = check(conversion, session, sample=None, rows=128, seed=1).report.within
    return _Candidate(content, conversion, near)


def _apply_link(model: Any, graph: Any) -> None:
    """exp() behind boosting that sums logarithms, which skl2onnx leaves out."""
    from onnx import helper

    while inner := getattr(model, "best_estimator_", None) or getattr(model, "steps", None):
        model = inner[-1][1] if isinstance(inner, list) else inner
    if type(model).__name__ != "HistGradientBoostingRegressor" or model.loss not in ("poisson", "gamma"):
        return
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = [f"{name}_logarithm" if name == output.name else name for name in node.output]
    graph.node.append(helper.make_node("Exp", [f"{output.name}_logarithm"], [output.name]))


def _mend_sublinear(model: Any, graph: Any) -> None:
    """With sublinear_tf a word that occurs n times counts 1 + log(n), for which skl2onnx writes log(1 + n). It is
    log(e n), and no word counts log(1)."""
    from onnx import helper, numpy_helper

    from converters.sklearn_inputs import parts

    if not any(getattr(part, "sublinear_tf", False) for part in parts(model)):
        return
    ones = {item.name: item for item in graph.initializer if (numpy_helper.to_array(item) == 1).all()}
    logged = {node.input[0] for node in graph.node if node.op_type == "Log"}
    for at, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Add" or node.output[0] not in logged or node.input[1] not in ones:
            continue
        one, euler = node.input[1], f"{node.output[0]}_e"
        value = np.array([np.e], numpy_helper.to_array(ones[one]).dtype)
        graph.initializer.append(numpy_helper.from_array(value, euler))
        scaled = helper.make_node("Mul", [node.input[0], euler], [f"{euler}_times"])
        least = helper.make_node("Max", [scaled.output[0], one], list(node.output))
        graph.node.remove(node)
        graph.node.insert(at, scaled)
        graph.node.insert(at + 1, least)


def _mend_labels(model: Any, graph: Any) -> None:
    """skl2onnx gives a quadratic discriminant's labels as one row."""
    from onnx import helper, numpy_helper

    from converters.sklearn_inputs import parts

    if not any(type(part).__name__ == "QuadraticDiscriminantAnalysis" for part in parts(model)):
        return
    for node in graph.node:
        node.output[:] = ["label_row" if name == "label" else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "label_shape"))
    graph.node.append(helper.make_node("Reshape", ["label_row", "label_shape"], ["label"]))


def _table(inputs: "Inputs", feed: Feed, model: Any) -> Any:
    """What the original takes, of what the ONNX model takes: doubles, texts, a data frame where it was given one."""
    if inputs.kind == "matrix":
        table = feed["input"].astype(np.float64)
        return _framed(table, [column.name for column in inputs.columns], model)
    if inputs.kind == "prose":
        return [str(text) for text in feed["text"].ravel()]
    columns = {
        column.name: feed[column.name].ravel().astype(object if column.is_text else np.float64)
        for column in inputs.columns
    }
    import pandas

    frame = pandas.DataFrame(columns)
    return frame if hasattr(model, "feature_names_in_") else frame.to_numpy(object)


def _framed(table: Any, names: list[str], model: Any) -> Any:
    if not hasattr(model, "feature_names_in_"):
        return table
    import pandas

    return pandas.DataFrame(table, columns=names)


def _answers_of(model: Any, inputs: "Inputs", shapes: dict[str, tuple[int, ...]]) -> Callable[[Feed], Feed]:
    """`shapes`: what the converted model gives, by its outputs' names, whatever it declares."""
    scorer = getattr(model, "predict_proba", None) or getattr(model, "decision_function", None)
    clusters = not hasattr(model, "classes_") and hasattr(model, "transform")

    def original(name: str, table: Any) -> Any:
        if name == "label":
            return model.predict(table)
        if name == "probabilities":
            return scorer(table) if scorer is not None else None
        if name == "score_samples":
            return model.score_samples(table)
        if name == "scores":
            return model.transform(table) if clusters else model.decision_function(table)
        if hasattr(model, "predict") and not hasattr(model, "get_support"):  # a selection gives columns, not labels
            return model.predict(table)
        return model.transform(table)

    def answer(feed: Feed) -> Feed:
        table, answers = _table(inputs, feed, model), {}
        rows = len(next(iter(feed.values())))
        for name, shape in shapes.items():
            value = original(name, table)
            if value is None:
                continue
            array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
            answers[name] = _shaped(array, shape, rows)
        return answers

    return answer


def _shaped(array: Any, shape: tuple[int, ...], rows: int) -> Any:
    """With the axes that skl2onnx gives it: one column for one number, and two scores for the one of two classes."""
    if len(shape) == 2 and array.ndim == 1 and shape[1] == 2:
        return np.stack([-array, array], axis=1)
    if len(shape) == 2 and array.ndim == 1:
        return array.reshape(rows, 1)
    return array.reshape(rows) if len(shape) == 1 and array.size == rows else array


def _rows_of(model: Any, inputs: "Inputs", dtype: Any) -> Callable[[int, np.random.Generator], Feed]:
    def rows(count: int, random: np.random.Generator) -> Feed:
        from converters.sklearn_inputs import made_rows

        seed = int(random.integers(2**31))
        for missing in (True, False):
            feed = made_rows(inputs, count, np.random.default_rng(seed), dtype, missing=missing)
            with contextlib.suppress(ValueError, TypeError):
                table = _table(inputs, feed, model)
                model.predict(table) if hasattr(model, "predict") else model.transform(table)
                break
        return feed

    return rows


def _manifest(model: Any, inputs: "Inputs") -> dict[str, Any]:
    manifest: dict[str, Any] = {}
    names = [column.name for column in inputs.columns]
    if inputs.kind == "matrix" and len(set(names)) == len(names) and hasattr(model, "feature_names_in_"):
        manifest["input"] = [{"name": "input", "as": "columns", "columns": names}]
    classes = getattr(model, "classes_", None)
    if hasattr(model, "predict_proba") and isinstance(classes, np.ndarray):
        manifest["labels"] = [str(item) for item in classes]
        manifest["output"] = [{"name": "probabilities", "labels": True}]
    return manifest


CONVERTER = SklearnConverter()
