"""Runs the test vectors that came with a model, on this machine, and compares: the bundle's word is put to the proof.

Runs in the confined child that looks at a model at its deploy, on the CPU, and in a device's worker when it opens it.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import IngleError, RefusedError
from appliance.core.tensors import DTYPES, element_count
from appliance.core.vectors import Bound, VectorTensor, parse_vectors
from appliance.workers.session import SpentError
from appliance.workers.tensors import bfloat16_to_float
from appliance.workers.text_session import Model

Array = NDArray[Any]
VECTORS = "vectors/parity.json"


def check_vectors(
    folder: Path, session: Model, *, fp32_bound: Bound | None = None, most_s: float = float("inf")
) -> int:
    """How many vectors the model was asked, 0 where it has none. Once it took `most_s`, it is asked no more.
    `fp32_bound`: how far FP32 may be off at least, where another bound than equality is given for it.

    Raises RefusedError, with the figures, where an answer is not the one that is written there; SpentError where the
    session is of no more use after a vector."""
    path = folder / VECTORS
    if not path.is_file():
        return 0
    found = parse_vectors(path.read_bytes())
    names = [spec.name for spec in session.signature.outputs]
    began_s = time.monotonic()
    for number, vector in enumerate(found.vectors, 1):
        try:
            answers = session.run({tensor.name: _array(tensor) for tensor in vector.inputs})
        except SpentError:
            raise
        except IngleError as error:
            raise RefusedError(f"test vector {number} of the bundle does not run: {error.sentence}") from None
        by_name = dict(zip(names, answers, strict=True))
        for expected in vector.outputs:
            if expected.name not in by_name:
                raise RefusedError(f"test vector {number} speaks of output '{expected.name}', which the model has not")
            bound = found.bounds.get(expected.name)
            if bound and fp32_bound and expected.dtype == "FP32":
                bound = Bound(max(bound.absolute, fp32_bound.absolute), max(bound.relative, fp32_bound.relative))
            if fault := difference(expected, by_name[expected.name], bound):
                raise RefusedError(
                    f"the model answers otherwise here than where it was converted: output '{expected.name}' of test "
                    f"vector {number} {fault}"
                )
        if time.monotonic() - began_s >= most_s:
            return number
    return len(found.vectors)


def difference(expected: VectorTensor, answer: Array, bound: Bound | None) -> str:
    """How the answer differs, as the end of a sentence; empty where it does not, or within the bound."""
    wanted = _array(expected)
    if wanted.shape != answer.shape:
        return f"has shape {list(answer.shape)}, expected {list(wanted.shape)}"
    if expected.dtype == "BF16":
        wanted, answer = bfloat16_to_float(wanted), bfloat16_to_float(answer)
    if bound is None or wanted.dtype.kind != "f":
        differs = int(np.count_nonzero(wanted != answer))
        return f"differs in {differs} of {wanted.size} elements, expected none" if differs else ""
    rows = len(wanted) if wanted.ndim else 1
    wide, other = (array.reshape(rows, -1).astype(np.float64) for array in (wanted, answer))
    finite = np.isfinite(wide)
    same = np.isclose(np.where(finite, 0.0, wide), np.where(finite, 0.0, other), equal_nan=True)
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(wide - other), np.where(same, 0.0, np.inf))
    error = np.where(np.isnan(error), np.inf, error)
    largest = np.max(np.where(finite, np.abs(wide), 0.0), axis=1, initial=0.0)
    row_error = np.max(error, axis=1, initial=0.0)
    beyond = np.flatnonzero(row_error > bound.absolute + bound.relative * largest)
    if not beyond.size:
        return ""
    worst = int(beyond[np.argmax(row_error[beyond])])
    most = bound.absolute + bound.relative * largest[worst]
    return (
        f"differs by {row_error[worst]:.3g} in row {worst}, expected at most {most:.3g} ({beyond.size} of {rows} rows)"
    )


def _array(tensor: VectorTensor) -> Array:
    dtype = DTYPES.get(tensor.dtype)
    try:
        if dtype is None:
            raise ValueError(f"there is no dtype {tensor.dtype[:40]!a}")
        if tensor.dtype == "BYTES":
            texts = np.empty(len(tensor.texts), object)
            texts[:] = tensor.texts
            return texts.reshape(tensor.shape)
        if element_count(tensor.shape) * dtype.size_bytes != len(tensor.data):
            raise ValueError(f"shape {list(tensor.shape)} does not fit {len(tensor.data)} bytes")
        return np.frombuffer(tensor.data, dtype.numpy).reshape(tensor.shape)
    except ValueError as error:
        raise RefusedError(f"a test vector of the bundle is wrong: tensor '{tensor.name}': {error}") from None
