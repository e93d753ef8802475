"""PMML: regression (general too), trees, forests and boosted trees, k-means. Fields are inputs by name, a column each.

The document is evaluated twice: row by row as the standard says (pmml_rows.py), and by the graph; the two are compared.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from appliance.core.errors import RefusedError
from converters import pmml_file, pmml_rows
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.options import Options
from converters.pmml_derived import Derived
from converters.pmml_derived_rows import Found, Invalid, settle
from converters.pmml_fields import InvalidValueError, prepared
from converters.pmml_model import (
    Chain,
    Clusters,
    Document,
    Ensemble,
    Model,
    Regression,
    Row,
    Target,
    Tree,
)
from converters.pmml_samples import rows_of

MAX_BYTES = 512 * 2**20


class PmmlConverter(Converter):
    name: ClassVar[str] = "pmml"
    extra: ClassVar[str] = "onnx"
    title: ClassVar[str] = "PMML"
    takes: ClassVar[str] = "PMML 4: regression, GLM, trees, forests, boosted trees, k-means"
    formats: ClassVar[tuple[str, ...]] = ("pmml",)
    modules: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters import pmml_graph

        say("reading the document")
        if source.stat().st_size > MAX_BYTES:
            raise RefusedError(f"the document is larger than {MAX_BYTES} bytes, more than can be converted")
        document = pmml_file.read_pmml(source.read_bytes())
        say("building the graph")
        pmml_graph.write(document, folder / "model.onnx")
        manifest: dict[str, Any] = {}
        if document.classes:
            manifest = {"labels": list(document.classes), "output": [{"name": "probabilities", "labels": True}]}
        notes: tuple[str, ...] = ()
        if document.outputs:
            names = ", ".join(document.outputs)[:200]
            notes = (f"the outputs that the document makes of the model's answer are left out: {names}",)
        return Conversion(folder / "model.onnx", _answers(document), rows_of(document), manifest, notes)


def _answers(document: Document) -> Callable[[Feed], Feed]:
    def answer(feed: Feed) -> Feed:
        count = len(next(iter(feed.values())))
        rows = [_row(document, feed, index) for index in range(count)]
        model, classes = document.model, document.classes
        if isinstance(model, Clusters):
            return _nearest(model, rows)
        if not classes:
            return {"value": np.array([_told(document.target, model, row) for row in rows])}
        nothing = [math.nan] * len(classes)
        shares = np.array([_shares(model, classes, row) if row is not None else nothing for row in rows])
        says = [_says(model, classes, row) if row is not None else nothing for row in rows]
        labels = np.empty(count, object)
        labels[:] = [
            classes[int(np.argmax(said))] if not np.isnan(share).any() else ""
            for said, share in zip(says, shares, strict=True)
        ]
        return {"label": labels, "probabilities": shares}

    return answer


def _row(document: Document, feed: Feed, index: int) -> Row | None:
    """What the model sees; of a chain, what its last model sees. None: a value is invalid, and so no answer."""
    try:
        row: Found = {field.name: prepared(field, feed[field.name][index, 0]) for field in document.fields}
        settled = _settled(document.derived, document.direct, row)
        model = document.model
        return _chained(model, document.direct, settled) if isinstance(model, Chain) else settled
    except InvalidValueError:
        return None


def _settled(derived: tuple[Derived, ...], direct: frozenset[str], row: Found) -> Row:
    """The row with what can be derived of it. Raises InvalidValueError where the model looks at what is invalid."""
    settle(derived, row)
    if any(isinstance(row.get(name), Invalid) for name in direct):
        raise InvalidValueError
    return cast(Row, row)


def _told(target: Target, model: Model, row: Row | None) -> float:
    if row is None:
        return math.nan
    value = _number(model, row)
    if math.isnan(value):
        return target.default
    value = min(max(value, target.low), target.high) * target.factor + target.constant
    if not math.isfinite(value):
        return value
    return {"round": math.floor(value + 0.5), "ceiling": math.ceil(value), "floor": math.floor(value)}.get(
        target.cast, value
    )


def _number(model: Model, row: Row) -> float:
    if isinstance(model, Tree):
        node = pmml_rows.reached(model, row)
        return float(node.score) if node is not None else math.nan
    if isinstance(model, Regression):
        value = pmml_rows.linear(model.equations[0], row)
        if model.normalization in ("softmax", "logit"):
            return 0.0 if value <= -700 else 1 / (1 + math.exp(-value))  # NaN stays NaN
        return math.exp(value) if model.normalization == "exp" else pmml_rows.linked(model.normalization, value)
    if isinstance(model, Chain):
        return _number(model.last, row)
    assert isinstance(model, Ensemble)
    counted = pmml_rows.counted(model, row)
    if not counted:
        return math.nan
    values = [_number(model.members[place], row) for place in counted]
    if model.method == "sum":
        return math.fsum(values)
    if model.method == "median":
        return float(np.median(values))
    weights = [model.weights[place] if "weighted" in model.method else 1.0 for place in counted]
    total = math.fsum(w * v for w, v in zip(weights, values, strict=True))
    return total if model.method == "weightedSum" else total / math.fsum(weights)


def _shares(model: Model, classes: tuple[str, ...], row: Row) -> list[float]:
    if isinstance(model, Tree):
        return pmml_rows.shares_of(pmml_rows.reached(model, row), classes)
    if isinstance(model, Regression):
        return _regressed(model, classes, row)
    if isinstance(model, Chain):
        return _shares(model.last, classes, row)
    assert isinstance(model, Ensemble)
    says = _says if "Vote" in model.method else _shares
    counted = pmml_rows.counted(model, row)
    if not counted:
        return [math.nan] * len(classes)
    found = np.array([says(model.members[place], classes, row) for place in counted])
    weights = np.array([model.weights[place] if "eighted" in model.method else 1.0 for place in counted])
    total = (weights[:, None] * found).sum(axis=0)
    if "Vote" not in model.method:
        return list(total / weights.sum())
    return list(total / total.sum()) if total.sum() else [math.nan] * len(classes)


def _says(model: Model, classes: tuple[str, ...], row: Row) -> list[float]:
    """The vote for a class: of a tree its node's score, of another model its likeliest class. Zeros: no vote."""
    if isinstance(model, Tree):
        return pmml_rows.votes_of(pmml_rows.reached(model, row), classes)
    if isinstance(model, Chain):
        return _says(model.last, classes, row)
    if isinstance(model, Ensemble) and model.method == "selectFirst" and (counted := pmml_rows.counted(model, row)):
        return _says(model.members[counted[0]], classes, row)
    shares = np.array(_shares(model, classes, row))
    return list(np.zeros(len(shares)) if np.isnan(shares).any() else np.eye(len(shares))[int(shares.argmax())])


def _chained(model: Chain, direct: frozenset[str], row: Row) -> Row:
    """The row, what each step found, and what is derived of that. Raises InvalidValueError as `_settled` does."""
    found: Found = dict(row)
    for step in model.steps:
        seen = cast(Row, found)
        if step.label:
            value = _shares(step.model, step.classes, seen)[step.classes.index(step.label)]
        else:
            value = _told(step.target, step.model, seen)
        found[step.name] = None if math.isnan(value) else value
        _settled(model.derived, direct, found)
    return cast(Row, found)


def _regressed(model: Regression, classes: tuple[str, ...], row: Row) -> list[float]:
    values = {equation.target: pmml_rows.linear(equation, row) for equation in model.equations}
    y = np.array([values.get(name, 0.0) for name in classes])
    if model.normalization == "softmax" and len(classes) > 2:
        y = np.exp(y - y.max())
        return list(y / y.sum())
    if model.normalization in ("softmax", "logit") and len(classes) == 2:
        first = next(i for i, name in enumerate(classes) if name == model.equations[0].target)
        other = y[1 - first] if model.normalization == "softmax" else 0.0
        with np.errstate(over="ignore"):
            likely = 1 / (1 + np.exp(other - y[first]))
        return [likely, 1 - likely] if first == 0 else [1 - likely, likely]
    if model.normalization == "logit":
        with np.errstate(over="ignore"):
            y = 1 / (1 + np.exp(-y))
        y = y / y.sum()
    elif model.normalization == "simplemax":
        y = y / y.sum()
    elif len(classes) == 2:
        first = classes.index(model.equations[0].target)
        likely = min(max(pmml_rows.linked(model.normalization, y[first]), 0.0), 1.0)
        return [likely, 1 - likely] if first == 0 else [1 - likely, likely]
    elif len(classes) > 1:
        last = classes.index(model.equations[-1].target)
        y[last] = 1 - (y.sum() - y[last])
    return list(y)


def _nearest(model: Clusters, rows: list[Row | None]) -> Feed:
    """What is missing is left out, and the distance of the rest is taken as that of all (the standard's adjustment)."""
    x = np.array(
        [
            [math.nan if row is None or (value := row[name]) is None else float(value) for name in model.fields]
            for row in rows
        ]
    )
    known = ~np.isnan(x)
    apart = np.where(known, x, 0.0)[:, None, :] - np.array(model.centers)[None]
    weights = np.array(model.weights)
    parts = weights * (np.abs(apart) if model.kind == "cityBlock" else apart**2) * known[:, None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = parts.sum(axis=2) * (len(model.fields) / known.sum(axis=1))[:, None]
    distance[[row is None for row in rows]] = math.nan
    if model.kind == "euclidean":
        distance = np.sqrt(distance)
    labels = np.empty(len(rows), object)
    labels[:] = ["" if np.isnan(row).any() else model.names[int(row.argmin())] for row in distance]
    return {"label": labels, "distances": distance}


CONVERTER = PmmlConverter()
