"""LibSVM and LIBLINEAR: every kind of machine and every kernel but `precomputed`, with probabilities, in double.

The file's formulas are computed twice: by numpy as the library writes them, and by ONNX operators; both are compared.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError
from converters import svm_file
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.options import Options
from converters.svm_file import Linear, Svm

MAX_TEXT_BYTES = 2**30


class LibsvmConverter(Converter):
    name: ClassVar[str] = "libsvm"
    extra: ClassVar[str] = "onnx"
    title: ClassVar[str] = "LibSVM"
    takes: ClassVar[str] = "models of LibSVM and LIBLINEAR"
    formats: ClassVar[tuple[str, ...]] = ("libsvm", "liblinear")
    modules: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters import svm_graph

        say("reading the model")
        if source.stat().st_size > MAX_TEXT_BYTES:
            raise RefusedError(f"the file is larger than {MAX_TEXT_BYTES} bytes, more than can be converted")
        text = source.read_text(encoding="ascii", errors="replace")
        target = folder / "model.onnx"
        say("building the graph")
        if detected.format == "liblinear":
            linear = svm_file.read_linear(text)
            svm_graph.write_linear(linear, target)
            features = linear.weights.shape[0] - (linear.bias >= 0)
            return Conversion(
                target,
                _linear_answers(linear),
                _rows(np.zeros((1, features))),
                _manifest(linear.labels, linear.has_probabilities, 0),
            )
        svm = svm_file.read_svm(text)
        svm_graph.write_svm(svm, target)
        has_probabilities = svm.classifies and len(svm.prob_a) > 0
        batch = 64 if has_probabilities and len(svm.labels) > 2 else 0
        return Conversion(
            target, _svm_answers(svm), _rows(svm.vectors), _manifest(svm.labels, has_probabilities, batch)
        )


def _manifest(labels: tuple[int, ...], has_probabilities: bool, batch: int) -> dict[str, Any]:
    """The loop that couples probabilities goes on for each row by itself, so rows may share a run."""
    table: dict[str, Any] = {}
    if labels and has_probabilities:
        table |= {"labels": [str(label) for label in labels], "output": [{"name": "probabilities", "labels": True}]}
    if batch:
        table["limits"] = {"batch": batch}
    return table


def _rows(vectors: Any) -> Callable[[int, np.random.Generator], Feed]:
    """Around the support vectors, between them, on them, and far from all of them."""

    def made(count: int, random: np.random.Generator) -> Feed:
        low, high = vectors.min(axis=0), vectors.max(axis=0)
        width = np.where(high > low, high - low, 1.0)
        x = low + width * random.uniform(-0.25, 1.25, (count, vectors.shape[1]))
        on = random.integers(0, len(vectors), count // 4)
        x[: len(on)] = vectors[on]
        for row, value in zip(range(count - 3, count), (0.0, 10.0, -10.0), strict=True):
            x[row] = low + width * value
        return {"x": x}

    return made


def _svm_answers(svm: Svm) -> Callable[[Feed], Feed]:
    def answer(feed: Feed) -> Feed:
        decided = svm_file.decisions(svm, feed["x"])
        if svm.kind == "one_class":
            return {"decision": decided, "label": np.where(decided[:, 0] > 0, 1, -1)}
        if not svm.classifies:
            return {"value": decided[:, 0]}
        votes = np.zeros((len(decided), len(svm.labels)), np.int64)
        for pair, (i, j) in enumerate(svm_file.pairs_of(svm)):
            votes[np.arange(len(decided)), np.where(decided[:, pair] > 0, i, j)] += 1
        out: Feed = {"decision": decided, "label": np.array(svm.labels)[votes.argmax(axis=1)]}
        if len(svm.prob_a):
            out["probabilities"] = svm_file.coupled(svm_file.pairwise_probabilities(svm, decided))
        return out

    return answer


def _linear_answers(linear: Linear) -> Callable[[Feed], Feed]:
    def answer(feed: Feed) -> Feed:
        x = feed["x"]
        if linear.bias >= 0:
            x = np.hstack([x, np.full((len(x), 1), linear.bias)])
        decided = x @ linear.weights - linear.rho
        if linear.regresses:
            return {"value": decided[:, 0]}
        if linear.solver == "ONECLASS_SVM":
            return {"decision": decided, "label": np.where(decided[:, 0] > 0, 1, -1)}
        labels = np.array(linear.labels)
        best = np.where(decided[:, 0] > 0, 0, 1) if decided.shape[1] == 1 else decided.argmax(axis=1)
        out: Feed = {"decision": decided, "label": labels[best]}
        if linear.has_probabilities:
            likely = 1 / (1 + np.exp(-decided))
            both = np.hstack([likely, 1 - likely])
            out["probabilities"] = both if decided.shape[1] == 1 else likely / likely.sum(axis=1, keepdims=True)
        return out

    return answer


CONVERTER = LibsvmConverter()
