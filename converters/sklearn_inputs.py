"""What a fitted scikit-learn model takes: one matrix of numbers, columns by name, or texts, and rows that reach it.

In the process of a conversion alone. A fitted model does not keep the types of its columns, so they are read from what
its parts learned: an encoder's categories, an imputer's statistics, a scaler's means, a tree's thresholds.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from converters import histogram_trees
from converters.converter import Feed
from converters.rows import TEXTS
from converters.sklearn_steps import places_of
from converters.table_rows import MISSING_SHARE, rows_around


class Column(NamedTuple):
    """`known`: numbers or texts that the model saw. `closed`: others than the known are an error to it. `missing`: it
    learned what to do where there is none; of texts the empty one stands for that, `none` is what the model has for it.
    `used`: a part of the model looks at it."""

    name: str
    is_text: bool = False
    known: tuple[Any, ...] = ()
    closed: bool = False
    is_prose: bool = False
    missing: bool = False
    none: Any = np.nan
    used: bool = True


class Inputs(NamedTuple):
    """`kind`: `matrix` (one tensor of numbers), `columns` (a tensor for each that is used), `prose` (one of texts).
    `framed`: the model was given a data frame."""

    kind: str
    columns: tuple[Column, ...]
    framed: bool = False


def parts(model: Any) -> Iterator[Any]:
    """The model and all that it is made of, fitted parts alone."""
    waiting, seen = [model], set()
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen or isinstance(part, str) or part is None:
            continue
        seen.add(id(part))
        yield part
        for name in ("steps", "transformers_", "transformer_list"):
            waiting += [item[1] for item in getattr(part, name, ()) or ()]
        for name in (
            "estimator_",
            "estimators_",
            "calibrated_classifiers_",
            "best_estimator_",
            "estimator",
            "regressor_",
        ):
            inner = getattr(part, name, None)
            # A list is taken as it is: to numpy, a forest within it would be a row of trees.
            found = (
                list(inner.ravel()) if isinstance(inner, np.ndarray) else inner if isinstance(inner, list) else [inner]
            )
            waiting += [item for item in found if hasattr(item, "get_params") or hasattr(item, "estimator")]
        final = getattr(part, "final_estimator_", None)
        waiting += [final] if final is not None else []


def inputs_of(model: Any) -> Inputs:
    """Raises RefusedError where the number of columns cannot be told."""
    fronts = list(_fronts(model))
    vectorizers = [front for front in fronts if hasattr(front, "vocabulary_")]
    if vectorizers or type(fronts[0]).__name__ == "HashingVectorizer":
        words = tuple(dict.fromkeys(word for front in vectorizers for word in _words(front)))
        return Inputs("prose", (Column("text", is_text=True, is_prose=True, known=words),))
    counts = [_count(part) for part in (model, *fronts)]
    count = next((found for found in counts if found), 0)
    if not count:
        raise RefusedError("how many columns the model takes cannot be told: is it fitted?")
    names = next((found for found in map(_names, (model, *fronts)) if len(found) == count), [])
    named = names or [f"column{index}" for index in range(count)]
    learned = [_merged([_learned(front, index, count) for front in fronts]) for index in range(count)]
    columns = tuple(column._replace(name=name) for column, name in zip(learned, named, strict=True))
    by_name = any(_is_columns(front) and _by_name(front) for front in fronts)
    kind = "columns" if by_name or any(column.is_text for column in columns) else "matrix"
    return Inputs(kind, columns, bool(names))


def _count(part: Any) -> int:
    if hasattr(part, "X_thresholds_"):  # an isotonic regression
        return 1
    return int(getattr(part, "n_features_in_", 0) or len(getattr(part, "feature_names_", None) or ()))


def _names(part: Any) -> list[str]:
    names = getattr(part, "feature_names_in_", None)
    return [str(name) for name in (names if names is not None else ())]


# What hands its own columns on to the models within it.
AROUND = (
    "Voting",
    "Stacking",
    "Calibrated",
    "ThresholdClassifier",
    "TransformedTarget",
    "MultiOutput",
    "SelfTraining",
    "OutputCode",
)


def _fronts(model: Any) -> Iterator[Any]:
    """The fitted parts that see the model's own columns first."""
    name = type(model).__name__
    inner: list[Any] = []
    if hasattr(model, "steps"):
        inner = [step for _, step in model.steps if step is not None and not isinstance(step, str)][:1]
    elif hasattr(model, "best_estimator_"):
        inner = [model.best_estimator_]
    elif name == "FrozenEstimator":
        inner = [model.estimator]
    elif hasattr(model, "transformer_list"):
        inner = [step for _, step in model.transformer_list if not isinstance(step, str)]
    elif any(word in name for word in AROUND):
        for attribute in ("estimator_", "regressor_", "calibrated_classifiers_", "estimators_", "estimator"):
            found = getattr(model, attribute, None)
            if found is not None:
                inner = [one for one in (found if isinstance(found, list) else [found]) if not isinstance(one, str)]
                break
    if not inner:
        yield model
    for part in inner:
        yield from _fronts(part)


def _is_columns(part: Any) -> bool:
    return type(part).__name__ == "ColumnTransformer"


def _by_name(transformer: Any) -> bool:
    """Whether it picks columns by their names, so that the ONNX model must have inputs of these names."""
    return any(
        isinstance(name, str)
        for _, _, wanted in transformer.transformers_
        for name in np.ravel(np.asarray(wanted, object))
    )


def _merged(found: list[Column]) -> Column:
    """What several parts know of one column."""
    used = [column for column in found if column.used]
    if not used:
        return Column("", used=False)
    known = tuple(dict.fromkeys(item for column in used for item in column.known))
    return used[0]._replace(
        known=known,
        is_text=any(column.is_text for column in used),
        closed=any(column.closed for column in used),
        is_prose=any(column.is_prose for column in used),
        missing=all(column.missing for column in used),
    )


def _learned(part: Any, at: int, count: int) -> Column:
    """What a front knows of its column `at` of `count`."""
    if isinstance(part, str):
        return Column("", used=part != "drop")
    if hasattr(part, "steps"):
        return _along([step for _, step in part.steps if step is not None and not isinstance(step, str)], at, count)
    if _is_columns(part):
        found = []
        for _, step, wanted in part.transformers_:
            places = places_of(wanted, _names(part), part.n_features_in_)
            found += [_learned(step, place, len(places)) for place, column in enumerate(places) if column == at]
        return _merged(found)
    if hasattr(part, "transformer_list"):
        return _merged([_learned(step, at, count) for _, step in part.transformer_list])
    return _unnamed(part, at, count)


def _along(steps: list[Any], at: int, count: int) -> Column:
    """What the steps know as long as a column remains one: behind an imputer the next one knows more."""
    if not steps:
        return Column("")
    column = _learned(steps[0], at, count)
    if type(steps[0]).__name__.endswith("Imputer") and len(steps) > 1 and _count(steps[1]) == count:
        behind = _along(steps[1:], at, count)
        known = tuple(dict.fromkeys((*column.known, *behind.known)))
        return column._replace(
            known=known, is_text=column.is_text or behind.is_text, closed=behind.closed, is_prose=behind.is_prose
        )
    return column


def _words(vectorizer: Any) -> tuple[str, ...]:
    """Of the whole vocabulary, and words that it leaves out."""
    known = sorted(getattr(vectorizer, "vocabulary_", {}), key=str)
    stop = sorted(vectorizer.get_stop_words() or ()) if hasattr(vectorizer, "get_stop_words") else []
    return (*known[:: len(known) // 500 + 1], *stop[:: len(stop) // 100 + 1])


def _unnamed(part: Any, at: int, count: int) -> Column:
    """The column `at` of `count` that `part` takes."""
    if hasattr(part, "vocabulary_"):
        return Column("", is_text=True, is_prose=True, known=_words(part))
    if hasattr(part, "categories_") and len(part.categories_) == count:
        return _category(part.categories_[at], closed=getattr(part, "handle_unknown", "error") == "error")
    coded = histogram_trees.categories_of(part) if histogram_trees.is_histogram(part) else {}
    if at in coded:
        return _category(coded[at], closed=False)._replace(missing=True)
    imputes = type(part).__name__.endswith("Imputer")
    statistics = getattr(part, "statistics_", None)
    if statistics is not None and isinstance(statistics[at], str):
        return Column("", is_text=True, known=(statistics[at],), missing=imputes, none=part.missing_values)
    return Column("", known=tuple(_numbers(part, at)), missing=imputes)


def _category(items: Any, *, closed: bool) -> Column:
    known = tuple(item for item in items if item is not None and item == item)
    missing = len(known) < len(items)
    none = next((item for item in items if item is None), np.nan)
    return Column("", any(isinstance(item, str) for item in known), known, closed, missing=missing, none=none)


def _numbers(part: Any, at: int) -> Iterator[float]:
    for inner in parts(part):
        tree = getattr(inner, "tree_", None)
        if tree is not None:
            yield from tree.threshold[tree.feature == at][:200].astype(float)
        place = histogram_trees.order_of(inner).index(at) if _has_column(inner, at) else at
        for stage in list(getattr(inner, "_predictors", ()))[:50]:
            for predictor in stage:
                nodes = predictor.nodes[(predictor.nodes["feature_idx"] == place) & (predictor.nodes["is_leaf"] == 0)]
                yield from nodes["num_threshold"].astype(float)
        for name in ("bin_edges_", "bsplines_", "quantiles_"):
            yield from _edges(getattr(inner, name, None), at)
        if at == 0 and hasattr(inner, "X_thresholds_"):
            yield from inner.X_thresholds_.astype(float)
        for name in ("mean_", "center_", "data_min_", "data_max_", "data_range_", "statistics_", "x_mean"):
            values = getattr(inner, name, None)
            if isinstance(values, np.ndarray) and values.ndim == 1 and at < len(values):
                yield float(values[at])
                scale = getattr(inner, "scale_", None)
                if name in ("mean_", "center_") and isinstance(scale, np.ndarray):
                    yield from (float(values[at] - 2 * scale[at]), float(values[at] + 2 * scale[at]))
        for name in ("cluster_centers_", "support_vectors_", "_fit_X", "theta_", "means_", "X_train_", "centroids_"):
            values = getattr(inner, name, None)
            if isinstance(values, np.ndarray) and values.ndim == 2 and at < values.shape[1]:
                # Beside them: as far from two of them as the other, either would be right.
                yield from (values[:100, at] + 0.0137 * values[:, at].std()).astype(float)


def _has_column(part: Any, at: int) -> bool:
    return histogram_trees.is_histogram(part) and at < part.n_features_in_


def _edges(found: Any, at: int) -> Iterator[float]:
    """The edges of bins, the knots of splines, the quantiles of a column."""
    if isinstance(found, np.ndarray) and found.ndim == 2:
        found = found.T
    if found is not None and at < len(found):
        values = np.ravel(getattr(found[at], "t", found[at])).astype(float)
        yield from values[:: max(1, len(values) // 100)]


class Kind(NamedTuple):
    """Which rows are made: in which columns cells are missing (`all`, those that `learned` it, `none`), and whether
    numbers are positive alone."""

    missing: str
    positive: bool = False


KINDS = (Kind("all"), Kind("learned"), Kind("none"), Kind("learned", True), Kind("none", True))


def made_rows(inputs: Inputs, count: int, random: np.random.Generator, dtype: Any, kind: Kind) -> Feed:
    """The feed of `count` rows, by the ONNX model's inputs."""
    used = [column for column in inputs.columns if column.used]
    if inputs.kind != "matrix":
        return {column.name: _one(column, count, random, dtype, kind) for column in used}
    return {"input": np.concatenate([_one(column, count, random, dtype, kind) for column in inputs.columns], axis=1)}


def _one(column: Column, count: int, random: np.random.Generator, dtype: Any, kind: Kind) -> Any:
    missing = kind.missing == "all" or (kind.missing == "learned" and column.missing)
    if column.is_text:
        return _texts(column, count, random, missing=missing and column.missing)
    if column.closed and column.known:
        rows = random.choice(np.asarray(column.known, dtype), (count, 1))
        if column.missing and missing:
            rows[random.random(count) < MISSING_SHARE] = np.nan
        return rows
    known = {0: [float(v) for v in column.known]} if column.known else {}
    rows = rows_around(count, random, 1, dtype, thresholds=known, missing=missing)
    if kind.positive:
        rows = np.where(rows > 0, rows, np.where(np.isnan(rows), rows, 0.5 - rows)).astype(dtype)
    return rows


def _texts(column: Column, count: int, random: np.random.Generator, *, missing: bool) -> Any:
    texts = np.empty((count, 1), object)
    for row in range(count):
        word = str(random.choice(np.asarray(column.known, object))) if column.known else "a"
        if missing and random.random() < 2 * MISSING_SHARE:
            texts[row, 0] = ""
        elif column.is_prose:
            texts[row, 0] = _prose(column.known or ("a",), row, random)
        elif column.closed or random.random() < 0.8:
            texts[row, 0] = word
        else:
            texts[row, 0] = random.choice([text for text in TEXTS if text])
    return texts


def _prose(words: tuple[Any, ...], row: int, random: np.random.Generator) -> str:
    """Texts of many scripts, then the vocabulary's own words in each case, with signs between them."""
    if row < len(TEXTS):
        return TEXTS[row]
    chosen = [str(word) for word in random.choice(np.asarray(words, object), 6)]
    cased = [random.choice([word, word.upper(), word.title()]) for word in chosen]
    return str(random.choice([" ", ", ", "-", ".\n", " é "])).join(str(word) for word in cased)
