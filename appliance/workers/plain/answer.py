"""A plain answer: outputs as nested lists, and labels with scores where the manifest has labels, of rows or of a text's
parts.

Runs in a worker process, so that the gateway passes text on.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from appliance.core.manifest import Manifest

Array = NDArray[Any]
_FLOATS = ("FP16", "FP32", "FP64", "BF16")
_NULL = re.compile(rb"null")  # what orjson writes for a number that is not finite


def plain_answer(outputs: Mapping[str, Array], dtypes: Mapping[str, str], manifest: Manifest) -> bytes:
    """The members `"outputs":{...}` and, with labels, `,"labels":[[...]]` as JSON text without the outer braces.

    Labels: per row, at most `top_k`, best first, equals in the labels' order; where each token of a text is labelled,
    per row those that are something, in the text's order, with their `start` and `end` in characters. What JSON has no
    number for is written "NaN", "Infinity" or "-Infinity".
    """
    numbers = {name: _readable(dtypes[name], array) for name, array in outputs.items()}
    members = [orjson.dumps(name) + b":" + _text(array) for name, array in numbers.items()]
    text = b'"outputs":{' + b",".join(members) + b"}"
    labelled = _labelled(numbers, dtypes, manifest)
    return text if labelled is None else text + b',"labels":' + orjson.dumps(labelled)


def _readable(dtype: str, array: Array) -> Array:
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _text(array: Array) -> bytes:
    if array.dtype == object:
        return orjson.dumps(_strings(array.tolist()))
    # A 0-d array becomes its element, which orjson writes in its own type's digits: 0.1 as FP32 is 0.1.
    value = np.ascontiguousarray(array) if array.ndim else array[()]
    text = orjson.dumps(value if array.size else array.tolist(), option=orjson.OPT_SERIALIZE_NUMPY)
    if array.dtype.kind == "f" and b"null" in text:
        names = iter(array[~np.isfinite(array)].tolist())
        return _NULL.sub(lambda _: orjson.dumps(_name(next(names))), text)
    return text


def _name(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _strings(value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(one) for one in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _labelled(
    outputs: Mapping[str, Array], dtypes: Mapping[str, str], manifest: Manifest
) -> list[list[dict[str, Any]]] | None:
    if not manifest.labels:
        return None
    declared = next((output.name for output in manifest.output if output.labels and output.name in outputs), None)
    if declared is not None and dtypes[declared] not in (*_FLOATS, "BYTES", "BOOL"):
        return _chosen(outputs[declared], manifest)
    text = manifest.tokenized
    if text is not None and declared is not None and text.offsets in outputs:
        return _parts(outputs[declared], outputs[text.offsets], manifest)
    names = [declared] if declared is not None else [name for name in outputs if dtypes[name] in _FLOATS]
    for name in names:
        rows = _score_rows(outputs[name], len(manifest.labels))
        if rows is not None:
            return [_best(row, manifest) for row in rows]
    return None


_NOTHING = "O"  # "outside": how tagging schemes (IOB and its kin) call what is no part of anything


def _parts(scores: Array, offsets: Array, manifest: Manifest) -> list[list[dict[str, Any]]] | None:
    """The best label of each token that stands for some of the text."""
    if scores.ndim != 3 or scores.shape[2] != len(manifest.labels) or scores.shape[:2] != offsets.shape[:2]:
        return None
    best = scores.argmax(-1)
    return [
        [
            {
                "label": manifest.labels[best[row, token]],
                "score": _score(scores[row, token, best[row, token]]),
                "start": int(offsets[row, token, 0]),
                "end": int(offsets[row, token, 1]),
            }
            for token in range(scores.shape[1])
            if offsets[row, token, 1] > offsets[row, token, 0] and manifest.labels[best[row, token]] != _NOTHING
        ]
        for row in range(len(scores))
    ]


def _score_rows(array: Array, classes: int) -> Array | None:
    """The scores as (rows, classes), whatever axes of size 1 lie between; None where they are not so many."""
    if array.dtype.kind not in "fiu" or not array.ndim:
        return None
    rows = array.shape[0] if array.ndim > 1 else 1
    if array.size != rows * classes or classes not in array.shape or not rows:
        return None
    return array.reshape(rows, classes)


def _best(row: Array, manifest: Manifest) -> list[dict[str, Any]]:
    scores = np.where(np.isnan(row), -np.inf, row.astype(np.float64))
    best = np.argsort(-scores, kind="stable")[: manifest.top_k].tolist()
    return [{"label": manifest.labels[i], "score": _score(row[i])} for i in best]


def _score(number: Any) -> float | str:
    # str() gives the shortest digits that mean this number in its own type.
    return float(str(number)) if np.isfinite(number) else _name(float(number))


def _chosen(array: Array, manifest: Manifest) -> list[list[dict[str, Any]]] | None:
    """The labels of an output that names classes by number. It gives no scores: what it chose counts as 1."""
    if array.size != (array.shape[0] if array.ndim else 1):
        return None
    numbers = array.reshape(-1).tolist()
    return [[{"label": manifest.labels[i] if 0 <= i < len(manifest.labels) else str(i), "score": 1.0}] for i in numbers]
