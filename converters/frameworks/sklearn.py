"""scikit-learn: fitted estimators and pipelines from skops files, and with --trust from pickles and joblib's.

Pipelines over columns are written by sklearn_graph.py, in double precision; the estimators within them, and whatever
stands alone, by skl2onnx, with what it gets wrong set right (sklearn_foreign.py) or refused: see `_check()`. Answers
are compared with the original in double precision, as its users call it.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Conversion, Converter, Feed, Say, require
from converters.detected import Detected
from converters.options import Options

if TYPE_CHECKING:
    from converters.sklearn_inputs import Column, Inputs, Kind

PYTHON_WORD = r"(?u)\b\w\w+\b"
# What skops does not count among its own trusted types: what is in a partial is named beside it.
HARMLESS = (
    "sklearn.", "numpy.dtype", "numpy.number", "builtins.object", "functools.partial", "scipy.interpolate.",
    "scipy.stats.", "scipy._lib.array_api_compat.numpy.", "scipy.sparse._csr.", "scipy.sparse._csc.",
    "numpy.mean",
)  # fmt: skip
# A linear classifier's margin of less is a rounding of its sum, in single precision as in double.
_ROUNDED = 1e-6
# Of ai.onnx.ml: the newest first; the older one for graphs with trees of skl2onnx's, which the newest does not take.
ML_OPSETS = (5, 3)
# What reads single precision, whatever it is given, and what is made of nothing else.
SINGLE = ("Forest", "Tree", "GradientBoosting", "Bagging", "AdaBoost")


UNKNOWN = {
    "HashingVectorizer": "use TfidfVectorizer",
    "DictVectorizer": "give the columns as a table, and use OneHotEncoder within a ColumnTransformer",
    "GaussianProcessClassifier": "use SVC(probability=True), or a GaussianProcessRegressor",
    "RadiusNeighborsClassifier": "use KNeighborsClassifier",
    "FeatureHasher": "give the columns as a table, and use OneHotEncoder within a ColumnTransformer",
    "NMF": "its transform() searches for each row's factors: use TruncatedSVD or PCA, or do it in front of the model",
    "MiniBatchNMF": "its transform() searches for each row's factors: use TruncatedSVD or PCA, or do it in front",
    "SparsePCA": "scikit-learn's own does not answer a single row: use PCA",
    "MiniBatchSparsePCA": "scikit-learn's own does not answer a single row: use PCA",
    "LatentDirichletAllocation": "its transform() iterates until a text's topics are steady: use TruncatedSVD behind a "
    "TfidfVectorizer, or do it in front",
}


class SklearnConverter(Converter):
    name: ClassVar[str] = "sklearn"
    extra: ClassVar[str] = "sklearn"
    title: ClassVar[str] = "scikit-learn"
    takes: ClassVar[str] = "skops files of estimators and pipelines; pickles and joblib's files with --trust"
    formats: ClassVar[tuple[str, ...]] = ("skops", "pickle", "joblib")
    modules: ClassVar[tuple[str, ...]] = ("sklearn", "skl2onnx", "skops", "joblib", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters.sklearn_foreign import sentence_of
        from converters.sklearn_graph import is_written_here
        from converters.sklearn_inputs import inputs_of

        say("reading the model")
        model = _loaded(source, detected, options)
        way_out = ": save it with its save_model() and convert that" if hasattr(model, "save_model") else ""
        require(hasattr(model, "get_params"), f"the file holds a {type(model).__name__}, no estimator{way_out}")
        _check(model)
        inputs = inputs_of(model)
        reasons: list[str] = []
        best: _Candidate | None = None
        here = is_written_here(model)
        for dtype in (np.float64, np.float32) if here else _dtypes(model):
            say(f"writing it as ONNX in {np.dtype(dtype).name}")
            try:
                candidate = _written(model, inputs, dtype, folder / "model.onnx", here=here)
            except RefusedError as error:
                reasons.append(error.sentence)
                continue
            except Exception as error:  # whatever skl2onnx raises
                reasons.append(sentence_of(model, error))
                continue
            best = best or candidate
            if candidate.is_near:
                best = candidate
                break
        if best is None:
            raise RefusedError(reasons[0])
        (folder / "model.onnx").write_bytes(best.content)
        return best.conversion


def _dtypes(model: Any) -> tuple[Any, Any]:
    """The inputs' dtypes to try, in order: double precision, in which scikit-learn reckons; its trees read single."""
    from converters.sklearn_inputs import parts

    single = all(any(word in type(part).__name__ for word in SINGLE) or hasattr(part, "best_estimator_")
                 for part in parts(model))  # fmt: skip
    return (np.float32, np.float64) if single else (np.float64, np.float32)


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
    from converters.sklearn_inputs import parts

    for part in parts(model):
        name = type(part).__name__
        require(name not in UNKNOWN, f"{name} cannot be converted: {UNKNOWN.get(name, '')}")
        if "Vectorizer" in name and hasattr(part, "analyzer"):
            require(part.analyzer == "word", f"{name}(analyzer={part.analyzer!r}) does not split texts alike in ONNX: "
                    "use analyzer='word'")  # fmt: skip
            require(part.strip_accents is None, f"{name}(strip_accents={part.strip_accents!r}) cannot be done in ONNX: "
                    "use strip_accents=None, or strip accents before")  # fmt: skip
            own = [word for word in ("tokenizer", "preprocessor") if getattr(part, word) is not None]
            require(not own, f"{name} has a function of its own as {' and '.join(own)}, which cannot be converted")
            require(part.token_pattern == PYTHON_WORD, f"{name} has a token_pattern of its own, which ONNX may read "
                    "otherwise: use the default")  # fmt: skip


def _written(model: Any, inputs: "Inputs", dtype: Any, path: Path, *, here: bool) -> _Candidate:
    """`here`: the graph is ours, whose inputs are doubles, and `dtype` is what skl2onnx' parts of it reckon in."""
    from converters.parity import check
    from converters.session import Session
    from converters.sklearn_inputs import made_rows

    if here:
        _write_here(model, inputs, dtype, path)
    else:
        _write_foreign(model, inputs, dtype, path)
    session = Session(path)
    numbers = _input_dtype(model) if here else dtype
    kind = _kind_of(model, inputs, numbers)

    def rows(count: int, random: np.random.Generator) -> Feed:
        return made_rows(inputs, count, random, numbers, kind)

    shapes = {name: array.shape for name, array in session.run(rows(2, np.random.default_rng(0))).items()}
    if here:
        _tell_widths(path, shapes)
    conversion = Conversion(
        path,
        _answers_of(model, inputs, shapes),
        rows,
        _manifest(model, inputs, kind),
        undecided=_undecided_of(model, inputs),
    )
    near = check(conversion, session, sample=None, rows=128, seed=1).report.within
    return _Candidate(path.read_bytes(), conversion, near)


def _write_foreign(model: Any, inputs: "Inputs", dtype: Any, path: Path) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    from converters.sklearn_foreign import onnx_of

    numbers = FloatTensorType if dtype == np.float32 else DoubleTensorType
    if inputs.kind == "matrix":
        types = [("input", numbers([None, len(inputs.columns)]))]
    else:
        types = [
            (column.name, StringTensorType([None, 1]) if column.is_text else numbers([None, 1]))
            for column in inputs.columns
        ]
    path.write_bytes(onnx_of(model, types).SerializeToString())


def _write_here(model: Any, inputs: "Inputs", dtype: Any, path: Path) -> None:
    from converters import sklearn_boosters, sklearn_models
    from converters.graph import Graph
    from converters.sklearn_graph import Writer
    from converters.sklearn_table import OPSET, Block, Table

    for ml_opset in ML_OPSETS:
        graph, writer, single = Graph(opset=OPSET, ml_opset=ml_opset), Writer(dtype), ""
        if inputs.kind == "matrix":
            numbers, width = _input_dtype(model), len(inputs.columns)
            value = graph.input("input", numbers, ["rows", width])
            if numbers == np.float32:
                value, single = graph.cast(value, np.float64), value
            blocks = [Block(value, width)]
        else:
            blocks = [
                Block(graph.input(name, object if is_text else np.float64, ["rows", 1]), 1, is_text)
                if used
                else Block("", 1)
                for name, is_text, used in ((one.name, one.is_text, one.used) for one in inputs.columns)
            ]
        outputs = writer.outputs(model, Table(graph, tuple(blocks), given_single=single))
        if not graph.has("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            break
    classes = getattr(model, "classes_", None)
    last = _at_its_end(model)
    has_flags = (
        getattr(last, "multilabel_", False) or sklearn_boosters.has_flags(last) or sklearn_models.has_flags(last)
    )
    is_wide = isinstance(classes, list) or has_flags
    first = classes[0] if isinstance(classes, list) else classes
    is_text = classes is not None and np.asarray(first).dtype.kind in "OUS"
    numbers = np.float32 if writer.is_single else np.float64
    for name, value in outputs.items():
        if name == "label":
            graph.output(name, value, object if is_text else np.int64, ["rows", "labels"] if is_wide else ["rows"])
        else:
            graph.output(name, graph.cast(value, numbers), numbers, ["rows", f"{name}_columns"])
    graph.save(path)


def _input_dtype(model: Any) -> Any:
    """Of a matrix: single for trees alone, which read it so whatever they are given, else double."""
    from converters.sklearn_trees import is_of_trees

    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    return np.float32 if is_of_trees(model) else np.float64


def _at_its_end(model: Any) -> Any:
    """What predicts in searches and pipelines."""
    while hasattr(model, "best_estimator_") or hasattr(model, "steps"):
        model = model.best_estimator_ if hasattr(model, "best_estimator_") else model.steps[-1][1]
    return model


def _tell_widths(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Declares how many columns each output was seen to have."""
    import onnx

    made = onnx.load(str(path))
    for output in made.graph.output:
        for dim, size in list(zip(output.type.tensor_type.shape.dim, shapes[output.name], strict=False))[1:]:
            dim.dim_value = size
    onnx.save(made, str(path))


def _table(inputs: "Inputs", feed: Feed) -> Any:
    """What the original takes, of what the ONNX model takes: doubles, texts, a data frame where it was given one."""
    if inputs.kind == "prose":
        return [str(text) for text in feed["text"].ravel()]
    names = [column.name for column in inputs.columns]
    if inputs.kind == "matrix":
        table = feed["input"].astype(np.float64)
        if not inputs.framed:
            return table
        import pandas

        return pandas.DataFrame(table, columns=names)
    import pandas

    rows = len(next(iter(feed.values())))
    columns = [_cells(column, feed[column.name].ravel()) if column.used else np.full(rows, np.nan)
               for column in inputs.columns]  # fmt: skip
    frame = pandas.DataFrame(dict(enumerate(columns)))
    frame.columns = pandas.Index(names)
    return frame if inputs.framed else frame.to_numpy(object)


def _cells(column: "Column", cells: Any) -> Any:
    if not column.is_text:
        return cells.astype(np.float64)
    texts = cells.astype(object)
    if column.missing:
        texts[texts == ""] = column.none
    return texts


def _answers_of(model: Any, inputs: "Inputs", shapes: dict[str, tuple[int, ...]]) -> Callable[[Feed], Feed]:
    """`shapes`: what the converted model gives, by its outputs' names, whatever it declares."""
    scorer = getattr(model, "predict_proba", None) or getattr(model, "decision_function", None)
    clusters = not hasattr(model, "classes_") and hasattr(model, "transform")

    def original(name: str, table: Any) -> Any:
        if name == "label":
            return model.predict(table)
        if name.startswith("probabilities_"):
            return model.predict_proba(table)[int(name.removeprefix("probabilities_"))]
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
        table, answers = _table(inputs, feed), {}
        rows = len(next(iter(feed.values())))
        for name, shape in shapes.items():
            value = original(name, table)
            if value is None:
                continue
            array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
            answers[name] = _shaped(array, shape, rows)
        return answers

    return answer


def _undecided_of(model: Any, inputs: "Inputs") -> Callable[[Feed], Any] | None:
    """Of a linear classifier: by its own margins. Words that weigh alike for both sides cancel, but for a last bit."""
    last = model
    while hasattr(last, "steps"):
        last = last.steps[-1][1]
    if not hasattr(last, "coef_") or not hasattr(last, "classes_") or not hasattr(model, "decision_function"):
        return None

    def undecided(feed: Feed) -> Any:
        margins = np.asarray(model.decision_function(_table(inputs, feed)), np.float64)
        if margins.ndim == 1:
            return np.abs(margins) < _ROUNDED
        second, best = np.partition(margins, -2, axis=1)[:, -2:].T
        return best - second < _ROUNDED

    return undecided


def _shaped(array: Any, shape: tuple[int, ...], rows: int) -> Any:
    """With the axes that skl2onnx gives it: one column for one number, and two scores for the one of two classes."""
    if len(shape) == 2 and array.ndim == 1 and shape[1] == 2:
        return np.stack([-array, array], axis=1)
    if len(shape) == 2 and array.ndim == 1:
        return array.reshape(rows, 1)
    return array.reshape(rows) if len(shape) == 1 and array.size == rows else array


def _kind_of(model: Any, inputs: "Inputs", dtype: Any) -> "Kind":
    """The most demanding rows that the original takes."""
    from converters.sklearn_inputs import KINDS, made_rows

    for kind in KINDS:
        table = _table(inputs, made_rows(inputs, 64, np.random.default_rng(0), dtype, kind))
        with contextlib.suppress(Exception):  # whatever a step says of cells that are missing or negative
            model.predict(table) if hasattr(model, "predict") else model.transform(table)
            return kind
    return KINDS[0]  # it takes none of them, and the comparison will say why


def _manifest(model: Any, inputs: "Inputs", kind: "Kind") -> dict[str, Any]:
    manifest: dict[str, Any] = {}
    names = [column.name for column in inputs.columns]
    if inputs.kind == "matrix" and len(set(names)) == len(names) and inputs.framed:
        manifest["input"] = [{"name": "input", "as": "columns", "columns": names}]
        if kind.missing == "all" or all(column.missing for column in inputs.columns):
            manifest["input"][0]["missing"] = "nan"
    if inputs.kind == "columns":
        manifest["input"] = [
            {"name": column.name, "as": "columns", "columns": [column.name], "missing": "nan"}
            for column in inputs.columns
            if column.used and (column.missing or (kind.missing == "all" and not column.is_text))
        ]
    classes = getattr(model, "classes_", None)
    if hasattr(model, "predict_proba") and isinstance(classes, np.ndarray):
        manifest["labels"] = [str(item) for item in classes]
        manifest["output"] = [{"name": "probabilities", "labels": True}]
    return {key: value for key, value in manifest.items() if value}


CONVERTER = SklearnConverter()
