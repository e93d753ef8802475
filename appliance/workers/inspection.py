"""Looking at a model before it is taken: does it open, what does it take and give, does a sample run, may rows of
different calls share a run.

Runs in a forked, confined child that answers one JSON text on its socket and ends; the gateway bounds its time and
takes its death for an answer too. Nothing is written.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.catalogue.inspection import Inspection
from appliance.catalogue.onnx_file import check_external, read_onnx
from appliance.core.errors import BadInputError, IngleError, RefusedError
from appliance.core.manifest import Manifest
from appliance.core.tensors import DTYPES, Signature, TensorSpec
from appliance.workers.plain.content import tensors_from_content
from appliance.workers.plain.declarations import check_declarations
from appliance.workers.session import Session
from appliance.workers.spec import WorkerSpec
from appliance.workers.tensors import bfloat16_to_float
from appliance.workers.verdict import Verdict

Array = NDArray[Any]

_SLOW_TRIALS_S = 5.0


def run_inspection(spec: WorkerSpec, sock: socket.socket) -> None:
    """The child's body: sends a Verdict without an outcome before each step, then the final one, each on a line."""

    def say(verdict: Verdict) -> None:
        sock.sendall(msgspec.json.encode(verdict) + b"\n")

    try:
        for word in inspect(spec):
            say(word if isinstance(word, Verdict) else Verdict(step=word))
    except IngleError as error:
        say(Verdict(refusal=error.sentence))
    except MemoryError:
        say(Verdict(refusal="the model needs more memory than its limit while it is looked at"))
    except Exception as error:
        say(Verdict(refusal=f"the model could not be looked at: {type(error).__name__}: {error}"))


def inspect(spec: WorkerSpec) -> Iterator[str | Verdict]:
    """The steps' names as they begin, and the verdict last. Raises RefusedError."""
    folder = Path(spec.folder)
    yield "reading the file"
    check_external(folder, read_onnx(folder / "model.onnx"))
    yield "opening it in onnxruntime"
    session = Session(folder / "model.onnx", threads=1, providers=spec.providers)
    signature = session.signature
    check_manifest(spec.manifest, signature)
    check_declarations(signature, spec.manifest)
    yield "running a sample"
    warnings: list[str] = []
    sample = _declared_sample(spec.manifest, signature)
    if sample is not None:
        try:
            session.run(sample)
        except IngleError as error:
            raise RefusedError(f"the manifest's sample does not run: {error.sentence}") from None
    else:
        try:
            session.run({item.name: made(item, 1, 0) for item in signature.inputs if not item.optional})
        except IngleError as error:
            warnings.append(f"a made-up sample did not run, so give one in the manifest: {error.sentence}")
    yield "checking whether calls may share a run"
    batchable, reason = may_batch(session, spec.manifest)
    yield Verdict(Inspection(signature, batchable, reason, tuple(warnings)))


def check_manifest(manifest: Manifest, signature: Signature) -> None:
    """Raises RefusedError where the manifest speaks of an input or output that the model does not have."""
    for what, declared, real in (
        ("input", manifest.input, signature.inputs),
        ("output", manifest.output, signature.outputs),
    ):
        specs = {spec.name: spec for spec in real}
        for item in declared:
            spec = specs.get(item.name)
            if spec is None:
                raise RefusedError(f"the manifest declares {what} '{item.name}', but the model has {', '.join(specs)}")
            if item.dtype and item.dtype != spec.dtype:
                raise RefusedError(f"the manifest says {what} '{item.name}' is {item.dtype}, but it is {spec.dtype}")


def _declared_sample(manifest: Manifest, signature: Signature) -> dict[str, Array] | None:
    if manifest.sample is None:
        return None
    text = msgspec.json.encode(manifest.sample)
    try:
        return tensors_from_content("application/json", text, signature, manifest)
    except BadInputError as error:
        raise RefusedError(f"the manifest's sample does not fit the model: {error.sentence}") from None


def made(spec: TensorSpec, rows: int, seed: int, *, free: int = 1, below: int = 5) -> Array:
    """A made-up tensor of `rows` rows where the first dimension is free, `free` where another is; integers are from 0
    up to, not including, `below`, and rows of real numbers are of very unlike sizes."""
    random = np.random.default_rng(seed)
    shape = [(rows if axis == 0 else free) if size < 0 else size for axis, size in enumerate(spec.shape)]
    if spec.dtype == "BYTES":
        texts = np.empty(int(np.prod(shape)), object)
        texts[:] = [f"sample {seed} {index}" for index in range(texts.size)]
        return texts.reshape(shape)
    if spec.dtype == "BOOL":
        return random.integers(0, 2, shape).astype(bool)
    # What one row does to another must show: a large row hides nothing of its own, and much of its neighbours'.
    exponents = random.integers(-3, 4, (shape[0],) + (1,) * (len(shape) - 1)) if shape else 0
    numbers = random.normal(size=shape) * np.float64(10.0) ** exponents
    if spec.dtype == "BF16":
        bits: Array = np.asarray(numbers, np.float32).view(np.uint32) >> 16
        return bits.astype(np.uint16)
    dtype = np.dtype(DTYPES[spec.dtype].numpy)
    if dtype.kind in "iu":
        return random.integers(0, below, shape).astype(dtype)
    return np.asarray(numbers).astype(dtype)


def may_batch(session: Session, manifest: Manifest) -> tuple[bool, str]:
    """Whether rows of different calls may share a run, and why or why not.

    A free first dimension is no proof that it is a batch axis (it may be time, or the rows of one table), so it is
    tried: runs of made-up rows, alone and together, must give the same rows. An owner who knows of a dependence that
    made-up rows do not show says `batch = 1` in the manifest's limits.
    """
    if manifest.limits.batch == 1:
        return False, "the manifest's limit is 1"
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
            return _rows_are_independent(session, below)
        except IngleError as error:
            reason = f"a trial batch did not run: {error.sentence}"
    return False, reason


def _rows_are_independent(session: Session, below: int) -> tuple[bool, str]:
    """Three trials: few rows, few rows with larger inner dimensions (a softmax over one element hides all), and as
    many rows as one run will join, unless the model is so slow that trying would take minutes."""
    inputs, outputs = session.signature.inputs, session.signature.outputs
    began_s = time.monotonic()
    for trial, (sizes, free) in enumerate((((1, 2, 3), 1), ((1, 2, 3), 3), ((1, 24, 39), 1))):
        if trial == 2 and time.monotonic() - began_s > _SLOW_TRIALS_S:
            break
        parts = [
            {spec.name: made(spec, rows, 10 * trial + rows, free=free, below=below) for spec in inputs}
            for rows in sizes
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
