"""Whether rows of different calls may share a run of a model: tried, not believed.

Runs in the confined child that looks at a model at its deploy. See docs/decisions/0004-batching-is-proved.md.
"""

import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.catalogue.onnx_file import OnnxFacts
from appliance.core.errors import IngleError
from appliance.core.manifest import Manifest
from appliance.core.tensors import DTYPES, TensorSpec
from appliance.workers.tensors import bfloat16_to_float
from appliance.workers.text_session import Model

Array = NDArray[Any]

Kind = Literal["mixed", "high", "low"]
_LONGER = ("", " of some words", ", which is made of a few words more than most others")


def made(
    spec: TensorSpec, rows: int, seed: int, *, free: int = 1, below: int = 5, kind: Kind = "mixed", least: str = ""
) -> Array:
    """A made-up tensor of `rows` rows where the first dimension is free, `free` where another is.

    Mixed: integers from 0 up to, not including, `below`, real numbers of both signs whose rows are of very unlike
    sizes, texts that are all different and of unlike lengths. High and low: all ones or zeros, positive or negative,
    equal or `least`.
    """
    random = np.random.default_rng(seed)
    shape = [(rows if axis == 0 else free) if size < 0 else size for axis, size in enumerate(spec.shape)]
    if spec.dtype == "BYTES":
        texts = np.empty(int(np.prod(shape)), object)
        same = {"high": "sample", "low": least}
        unlike = [f"sample {seed} {index}{_LONGER[(seed + index) % 3]}" for index in range(texts.size)]
        texts[:] = unlike if kind == "mixed" else [same[kind]] * texts.size
        return texts.reshape(shape)
    if spec.dtype == "BOOL":
        flags: Array = random.integers(0, 2, shape) if kind == "mixed" else np.full(shape, kind == "high")
        return flags.astype(bool)
    # What one row does to another must show: a large row hides nothing of its own, and much of its neighbours'.
    exponents = random.integers(-3, 4, (shape[0],) + (1,) * (len(shape) - 1)) if shape else 0
    numbers = random.normal(size=shape) * np.float64(10.0) ** exponents
    if kind != "mixed":
        numbers = np.abs(numbers) * (1 if kind == "high" else -1)
    if spec.dtype == "BF16":
        bits: Array = np.asarray(numbers, np.float32).view(np.uint32) >> 16
        return bits.astype(np.uint16)
    dtype = np.dtype(DTYPES[spec.dtype].numpy)
    if dtype.kind in "iu":
        whole: Array = random.integers(0, below, shape)
        return (whole if kind == "mixed" else np.full(shape, min(below - 1, kind == "high"))).astype(dtype)
    return np.asarray(numbers).astype(dtype)


def may_batch(session: Model, manifest: Manifest, facts: OnnxFacts) -> tuple[bool, str]:
    """Whether rows of different calls may share a run, and why or why not.

    A free first dimension is no proof that it is a batch axis (it may be time, or the rows of one table), so it is
    tried: runs of made-up rows, alone and together, must give the same rows. An owner who knows of a dependence that
    made-up rows do not show says `batch = 1` in the manifest's limits. A graph that branches or loops may take another
    way for another number of rows, of which no trial reaches all: it batches only where the manifest sets a limit.
    """
    if manifest.limits.batch == 1:
        return False, "the manifest's limit is 1"
    if facts.has_control_flow and not manifest.limits.batch:
        return (
            False,
            "the graph branches or loops, perhaps by the number of rows; a batch limit in the manifest allows it",
        )
    signature = session.signature
    if any(spec.optional for spec in signature.inputs):
        return False, "some inputs are optional"
    for what, specs in (("input", signature.inputs), ("output", signature.outputs)):
        if not specs:
            return False, f"the model has no {what}s"
        for spec in specs:
            if not spec.shape or spec.shape[0] != -1:
                return False, f"the first dimension of {what} '{spec.name}' is fixed"
    for below in (5, 2, 1):  # an index into a small table must stay within it
        try:
            # Some tokenizers make no token of nothing, which callers are told; it must not keep texts from batching.
            return _rows_are_independent(session, below, least="a" if manifest.tokenized else "")
        except IngleError as error:
            reason = f"a trial batch did not run: {error.sentence}"
    return False, reason


_MIXED: tuple[Kind, Kind, Kind] = ("mixed", "mixed", "mixed")
_UNLIKE: tuple[Kind, Kind, Kind] = ("high", "low", "mixed")
# Rows of each part, size of other free dimensions, kinds of the parts' numbers.
_TRIALS = (((1, 2, 3), 1, _MIXED), ((1, 2, 3), 1, _UNLIKE), ((1, 2, 3), 3, _MIXED), ((1, 24, 39), 1, _MIXED))
_SLOW_TRIALS_S = 5.0


def _rows_are_independent(session: Model, below: int, least: str) -> tuple[bool, str]:
    """Four trials: few rows; few rows of unlike kinds; few rows with larger inner dimensions, since a softmax over one
    element hides all; as many rows as one run joins, unless the model is so slow that it would take minutes."""
    inputs, outputs = session.signature.inputs, session.signature.outputs
    began_s = time.monotonic()
    for trial, (sizes, free, kinds) in enumerate(_TRIALS):
        if trial == len(_TRIALS) - 1 and time.monotonic() - began_s > _SLOW_TRIALS_S:
            break
        parts = [
            {
                spec.name: made(spec, rows, 10 * trial + rows, free=free, below=below, kind=kind, least=least)
                for spec in inputs
            }
            for rows, kind in zip(sizes, kinds, strict=True)
        ]
        together = {spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in inputs}
        alone = [session.run(part) for part in parts]
        for index, (spec, joined) in enumerate(zip(outputs, session.run(together), strict=True)):
            if any(not part[index].ndim or len(part[index]) != rows for part, rows in zip(alone, sizes, strict=True)):
                return False, f"output '{spec.name}' does not have a row for each row that goes in"
            try:
                apart = np.concatenate([part[index] for part in alone])
            except ValueError:
                return False, f"the shape of output '{spec.name}' depends on the number of rows"
            if apart.shape != joined.shape or not _same(spec.dtype, apart, joined):
                return False, f"in output '{spec.name}', a row's answer depends on the other rows"
    return True, "rows alone and together gave the same answers"


# Kernels for other batch sizes add in another order, which shows in proportion to the row's largest number; what one
# row does to another is larger by far.
_TOLERANCE = {"FP16": 1e-2, "BF16": 5e-2, "FP32": 1e-4, "FP64": 1e-8}


def _same(dtype: str, apart: Array, joined: Array) -> bool:
    tolerance = _TOLERANCE.get(dtype)
    if tolerance is None or not apart.size:
        return bool(np.array_equal(apart, joined))
    if dtype == "BF16":
        apart, joined = bfloat16_to_float(apart), bfloat16_to_float(joined)
    rows = len(apart)
    wide, other = (array.reshape(rows, -1).astype(np.float64) for array in (apart, joined))
    finite = np.isfinite(wide)
    if not np.array_equal(finite, np.isfinite(other)) or not np.array_equal(
        wide[~finite], other[~finite], equal_nan=True
    ):
        return False
    wide, other = np.where(finite, wide, 0.0), np.where(finite, other, 0.0)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    return bool((np.abs(wide - other) <= tolerance * (1e-3 + largest)).all())
