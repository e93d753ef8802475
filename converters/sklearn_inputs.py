"""What a fitted scikit-learn model takes: one matrix of numbers, columns by name, or texts, and rows that reach it.

In the process of a conversion alone. A fitted model does not keep the types of its columns, so they are read from what
its parts learned: an encoder's categories, an imputer's statistics, a scaler's means, a tree's thresholds.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Feed
from converters.rows import TEXTS
from converters.table_rows import rows_around


class Column(NamedTuple):
    """`known`: numbers or texts that the model saw. `closed`: others than the known are an error to it."""

    name: str
    is_text: bool = False
    known: tuple[Any, ...] = ()
    closed: bool = False
    is_prose: bool = False


class Inputs(NamedTuple):
    """`kind`: `matrix` (one tensor of numbers), `columns` (a tensor for each), `prose` (one of texts)."""

    kind: str
    columns: tuple[Column, ...]


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
    first = _first(model)
    if hasattr(first, "vocabulary_") or type(first).__name__ == "HashingVectorizer":
        return Inputs("prose", (Column("text", is_text=True, is_prose=True, known=_words(first)),))
    count = getattr(model, "n_features_in_", getattr(first, "n_features_in_", None))
    if count is None:
        raise RefusedError("how many columns the model takes cannot be told: is it fitted?")
    names = [str(name) for name in getattr(model, "feature_names_in_", getattr(first, "feature_names_in_", ()))]
    named = names or [f"column{index}" for index in range(count)]
    learned = {index: _unnamed(first, index, count) for index in range(count)}
    if type(first).__name__ == "ColumnTransformer":
        for _, part, wanted in first.transformers_:
            if part in ("drop", "passthrough"):
                continue
            leading = _first(part)
            places = _places(wanted, names, count)
            for at, place in enumerate(places):
                learned[place] = _unnamed(leading, at, len(places))
    columns = tuple(learned[index]._replace(name=named[index]) for index in range(count))
    if type(first).__name__ == "ColumnTransformer" and (any(column.is_text for column in columns) or _by_name(first)):
        return Inputs("columns", columns)
    if all(column.is_text for column in columns):
        return Inputs("columns", columns)
    return Inputs("matrix", columns)


def _first(model: Any) -> Any:
    while True:
        if hasattr(model, "steps"):
            model = next((step for _, step in model.steps if step not in ("passthrough", None)), None)
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "transformer_list") and hasattr(model.transformer_list[0][1], "vocabulary_"):
            model = model.transformer_list[0][1]
        else:
            return model


def _by_name(transformer: Any) -> bool:
    """Whether it picks columns by their names, so that the ONNX model must have inputs of these names."""
    return any(
        isinstance(name, str)
        for _, _, wanted in transformer.transformers_
        for name in np.ravel(np.asarray(wanted, object))
    )


def _places(wanted: Any, names: list[str], count: int) -> list[int]:
    if isinstance(wanted, slice):
        return list(range(count))[wanted]
    items = [wanted] if isinstance(wanted, str | int) else list(wanted)
    if items and isinstance(items[0], bool | np.bool_):
        return [index for index, flag in enumerate(items) if flag]
    return [names.index(item) if isinstance(item, str) else int(item) % count for item in items]


def _words(vectorizer: Any) -> tuple[str, ...]:
    return tuple(sorted(getattr(vectorizer, "vocabulary_", {}), key=str))[:500]


def _unnamed(part: Any, at: int, count: int) -> Column:
    """The column `at` of `count` that `part` takes."""
    if hasattr(part, "vocabulary_"):
        return Column("", is_text=True, is_prose=True, known=_words(part))
    if hasattr(part, "categories_") and len(part.categories_) == count:
        known = tuple(item for item in part.categories_[at] if item is not None and item == item)
        closed = getattr(part, "handle_unknown", "error") == "error"
        return Column("", any(isinstance(item, str) for item in known), known, closed)
    statistics = getattr(part, "statistics_", None)
    if statistics is not None and isinstance(statistics[at], str):
        return Column("", is_text=True, known=(statistics[at],))
    return Column("", known=tuple(_numbers(part, at)))


def _numbers(part: Any, at: int) -> Iterator[float]:
    for inner in parts(part):
        tree = getattr(inner, "tree_", None)
        if tree is not None:
            yield from tree.threshold[tree.feature == at][:200].astype(float)
        for stage in list(getattr(inner, "_predictors", ()))[:50]:
            for predictor in stage:
                nodes = predictor.nodes[(predictor.nodes["feature_idx"] == at) & (predictor.nodes["is_leaf"] == 0)]
                yield from nodes["num_threshold"].astype(float)
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
                yield from values[:100, at].astype(float)


def made_rows(inputs: Inputs, count: int, random: np.random.Generator, dtype: Any, *, missing: bool) -> Feed:
    """The feed of `count` rows, by the ONNX model's inputs."""
    if inputs.kind == "matrix":
        known = {at: [float(v) for v in column.known] for at, column in enumerate(inputs.columns) if column.known}
        rows = rows_around(count, random, len(inputs.columns), dtype, thresholds=known, missing=missing)
        for at, column in enumerate(inputs.columns):
            if column.closed:
                rows[:, at] = random.choice(np.asarray(column.known, dtype), count)
        return {"input": rows}
    return {column.name: _one(column, count, random, dtype, missing=missing) for column in inputs.columns}


def _one(column: Column, count: int, random: np.random.Generator, dtype: Any, *, missing: bool) -> Any:
    if not column.is_text:
        if column.closed:
            return random.choice(np.asarray(column.known, dtype), (count, 1))
        known = {0: [float(v) for v in column.known]} if column.known else {}
        return rows_around(count, random, 1, dtype, thresholds=known, missing=missing)
    texts = np.empty((count, 1), object)
    for row in range(count):
        word = str(random.choice(np.asarray(column.known, object))) if column.known else "a"
        if column.is_prose:
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
