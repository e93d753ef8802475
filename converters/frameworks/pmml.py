"""PMML: regression (general too), trees, forests and boosted trees, k-means. Fields are inputs by name, a column each.

The document is evaluated twice: row by row as the standard says (pmml_rows.py), and by the graph; the two are compared.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError
from converters import pmml_file, pmml_rows
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.options import Options
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
    Test,
    Tree,
    walked,
)

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
        if document.derived:
            names = ", ".join(document.derived)[:200]
            notes = (f"the outputs that the document makes of the model's answer are left out: {names}",)
        return Conversion(folder / "model.onnx", _answers(document), _rows(document), manifest, notes)


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
    """None: the row has a value that is invalid, and so no answer."""
    try:
        return {field.name: prepared(field, feed[field.name][index, 0]) for field in document.fields}
    except InvalidValueError:
        return None


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
        return _number(model.last, _chained(model, row))
    assert isinstance(model, Ensemble)
    values = [_number(member, row) for member in model.members]
    if model.method == "sum":
        return math.fsum(values)
    weights = model.weights if "weighted" in model.method else (1.0,) * len(values)
    total = math.fsum(w * v for w, v in zip(weights, values, strict=True))
    return total if model.method == "weightedSum" else total / math.fsum(weights)


def _shares(model: Model, classes: tuple[str, ...], row: Row) -> list[float]:
    if isinstance(model, Tree):
        return pmml_rows.shares_of(pmml_rows.reached(model, row), classes)
    if isinstance(model, Regression):
        return _regressed(model, classes, row)
    if isinstance(model, Chain):
        return _shares(model.last, classes, _chained(model, row))
    assert isinstance(model, Ensemble)
    says = _says if "Vote" in model.method else _shares
    found = np.array([says(member, classes, row) for member in model.members])
    weights = np.array(model.weights if "eighted" in model.method else (1.0,) * len(found))
    total = (weights[:, None] * found).sum(axis=0)
    if "Vote" not in model.method:
        return list(total / weights.sum())
    return list(total / total.sum()) if total.sum() else [math.nan] * len(classes)


def _says(model: Model, classes: tuple[str, ...], row: Row) -> list[float]:
    """The vote for a class: of a tree its node's score, of another model its likeliest class. Zeros: no vote."""
    if isinstance(model, Tree):
        return pmml_rows.votes_of(pmml_rows.reached(model, row), classes)
    shares = np.array(_shares(model, classes, row))
    return list(np.zeros(len(shares)) if np.isnan(shares).any() else np.eye(len(shares))[int(shares.argmax())])


def _chained(model: Chain, row: Row) -> Row:
    """The row, and what each step found."""
    found = dict(row)
    for step in model.steps:
        if step.label:
            value = _shares(step.model, step.classes, found)[step.classes.index(step.label)]
        else:
            value = _told(step.target, step.model, found)
        found[step.name] = None if math.isnan(value) else value
    return found


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


def _rows(document: Document) -> Callable[[int, np.random.Generator], Feed]:
    """Around and on the thresholds that the model compares with, every level, and now and then one that it does not
    know, a value outside of its intervals, and a gap."""
    marks = _marks(document.model)

    def made(count: int, random: np.random.Generator) -> Feed:
        feed: Feed = {}
        rare = min(0.04, 0.4 / len(document.fields))
        for field in document.fields:
            column = np.empty((count, 1), object if field.is_text else np.float64)
            strange = random.random(count) < rare
            if field.is_text:
                column[:, 0] = random.choice(np.array([*field.levels, *field.absent], object), count)
                column[strange, 0] = "\u00fcn \U0001f642"
            else:
                on = np.array([*marks.get(field.name, ()), *map(float, field.absent)] or field.span)
                wide = (on.max() - on.min()) or 1.0
                value = random.choice(on, count) + wide * random.normal(size=count) * random.choice(
                    (0, 1e-6, 0.3), count
                )
                column[:, 0] = value
                if field.points and not field.intervals:
                    column[:, 0] = random.choice(np.array(field.points), count)
                elif field.intervals:
                    column[:, 0] = np.clip(value, *field.span)
                column[strange, 0] = value[strange]
            column[random.random(count) < rare, 0] = "" if field.is_text else np.nan
            feed[field.name] = column
        return feed

    return made


def _marks(model: Model) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    for item in walked(model):
        if isinstance(item, Clusters):
            for index, name in enumerate(item.fields):
                found.setdefault(name, set()).update(center[index] for center in item.centers)
        elif isinstance(item, Test) and isinstance(item.value, float) and item.field:
            found.setdefault(item.field, set()).add(item.value)
    return found


CONVERTER = PmmlConverter()
