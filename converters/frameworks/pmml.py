"""PMML: regression (general too), trees, forests and boosted trees, k-means. Fields are inputs by name, a column each.

The document is evaluated twice: row by row as the standard says (pmml_file.py), and by the graph; the two are compared.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError
from converters import pmml_file
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.options import Options
from converters.pmml_file import Clusters, Document, Ensemble, Field, Model, Regression, Tree

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
        return Conversion(folder / "model.onnx", _answers(document), _rows(document), manifest)


def _answers(document: Document) -> Callable[[Feed], Feed]:
    def answer(feed: Feed) -> Feed:
        count = len(next(iter(feed.values())))
        rows = [{f.name: _cell(f, feed[f.name][index, 0]) for f in document.fields} for index in range(count)]
        if isinstance(document.model, Clusters):
            return _nearest(document.model, rows)
        if not document.classes:
            values = [_number(document.model, row) * document.factor + document.constant for row in rows]
            return {"value": np.array(values)}
        shares = np.array([_shares(document.model, document.classes, row) for row in rows])
        labels = np.empty(count, object)
        labels[:] = [document.classes[int(np.argmax(share))] for share in shares]
        return {"label": labels, "probabilities": shares}

    return answer


def _cell(field: Field, value: Any) -> float | str | None:
    missing = value == "" if field.is_text else math.isnan(value)
    if missing:
        if field.replacement is None:
            return None
        return field.replacement if field.is_text else float(field.replacement)
    if field.is_text:
        return str(value)
    return float(np.float32(value)) if field.is_single else float(value)


def _number(model: Model, row: pmml_file.Row) -> float:
    if isinstance(model, Tree):
        node = pmml_file.reached(model, row)
        return float(node.score) if node is not None else math.nan
    if isinstance(model, Regression):
        value = pmml_file.linear(model.equations[0], row)
        if model.normalization in ("softmax", "logit"):
            return 0.0 if value <= -700 else 1 / (1 + math.exp(-value))  # NaN stays NaN
        return math.exp(value) if model.normalization == "exp" else value
    assert isinstance(model, Ensemble)
    values = [_number(member, row) for member in model.members]
    if model.method == "sum":
        return math.fsum(values)
    weights = model.weights if "weighted" in model.method else (1.0,) * len(values)
    total = math.fsum(w * v for w, v in zip(weights, values, strict=True))
    return total if model.method == "weightedSum" else total / math.fsum(weights)


def _shares(model: Model, classes: tuple[str, ...], row: pmml_file.Row) -> list[float]:
    if isinstance(model, Tree):
        return pmml_file.shares_of(pmml_file.reached(model, row), classes)
    if isinstance(model, Regression):
        return _regressed(model, classes, row)
    assert isinstance(model, Ensemble)
    found = np.array([_shares(member, classes, row) for member in model.members])
    weights = np.array(model.weights if "eighted" in model.method else (1.0,) * len(found))
    if "ajorityVote" in model.method:
        found = np.eye(len(classes))[found.argmax(axis=1)]
    mean: list[float] = ((weights[:, None] * found).sum(axis=0) / weights.sum()).tolist()
    return mean


def _regressed(model: Regression, classes: tuple[str, ...], row: pmml_file.Row) -> list[float]:
    values = {equation.target: pmml_file.linear(equation, row) for equation in model.equations}
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
        y = 1 / (1 + np.exp(-y))
    elif model.normalization == "simplemax":
        y = y / y.sum()
    elif len(classes) > 1:
        last = classes.index(model.equations[-1].target)
        y[last] = 1 - (y.sum() - y[last])
    return list(y)


def _nearest(model: Clusters, rows: list[dict[str, float | str | None]]) -> Feed:
    x = np.array([[np.nan if (value := row[name]) is None else float(value) for name in model.fields] for row in rows])
    apart = x[:, None, :] - np.array(model.centers)[None]
    weights = np.array(model.weights)
    distance = (weights * (np.abs(apart) if model.kind == "cityBlock" else apart**2)).sum(axis=2)
    if model.kind == "euclidean":
        distance = np.sqrt(distance)
    labels = np.empty(len(rows), object)
    labels[:] = [model.names[int(index)] for index in distance.argmin(axis=1)]
    return {"label": labels, "distances": distance}


def _rows(document: Document) -> Callable[[int, np.random.Generator], Feed]:
    """Around and on the thresholds that the model compares with, every level, one that it does not know, and gaps."""
    marks = _marks(document.model)
    gaps = not isinstance(document.model, Clusters)

    def made(count: int, random: np.random.Generator) -> Feed:
        feed: Feed = {}
        for field in document.fields:
            column = np.empty((count, 1), object if field.is_text else np.float64)
            if field.is_text:
                column[:, 0] = random.choice(np.array([*field.levels, "\u00fcn \U0001f642"], object), count)
            else:
                on = np.array(sorted(marks.get(field.name, ())) or (field.low, field.high))
                wide = (on.max() - on.min()) or 1.0
                column[:, 0] = random.choice(on, count) + wide * random.normal(size=count) * random.choice(
                    (0, 1e-6, 0.3), count
                )
            if gaps:
                column[random.random(count) < 0.04, 0] = "" if field.is_text else np.nan
            feed[field.name] = column
        return feed

    return made


def _marks(model: Model) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    stack: list[Any] = [model]
    while stack:
        item = stack.pop()
        if isinstance(item, Ensemble):
            stack.extend(item.members)
        elif isinstance(item, Tree):
            stack.append(item.root)
        elif isinstance(item, Clusters):
            for index, name in enumerate(item.fields):
                found.setdefault(name, set()).update(center[index] for center in item.centers)
        elif isinstance(item, pmml_file.Node):
            stack.extend(item.children)
            for test in item.tests:
                if test.operator[0] in "lg":
                    found.setdefault(test.field, set()).add(float(test.value))
    return found


CONVERTER = PmmlConverter()
