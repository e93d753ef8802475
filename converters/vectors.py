"""Test vectors of a comparison: a few runs, small enough to travel, in core's form."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.tensors import DTYPES, Signature, TensorSpec
from appliance.core.vectors import Bound, Vector, Vectors, VectorTensor
from converters.comparison import tolerance_of
from converters.converter import Feed
from converters.parity import Pair

MAX_RUNS = 8
MAX_RUN_BYTES = 2**20
MAX_ALL_BYTES = 4 * 2**20


def test_vectors(pairs: list[Pair], signature: Signature, precision: str) -> Vectors:
    """A few runs, with the original's answers, or the converted model's own where the original has none.

    A model whose smallest run is large gets that one alone, unless it is beyond all bounds.
    """
    sized = sorted(((_size(pair), index) for index, pair in enumerate(pairs)), key=lambda item: item[0] > MAX_RUN_BYTES)
    chosen: list[int] = []
    total = 0
    for size, index in sized[:MAX_RUNS]:
        if total + size > MAX_ALL_BYTES and chosen:
            break
        chosen.append(index)
        total += size
    if total > 3 * MAX_ALL_BYTES // 2:
        chosen = []
    vectors = tuple(_vector(pairs[index], signature) for index in sorted(chosen))
    bounds = {}
    for spec in signature.outputs:
        if tolerance := tolerance_of(spec.dtype, precision):
            bounds[spec.name] = Bound(tolerance.absolute, tolerance.relative)
    return Vectors(vectors, bounds)


def _vector(pair: Pair, signature: Signature) -> Vector:
    answers = {**pair.converted, **pair.original}
    return Vector(
        tuple(_tensor(spec, pair.feed) for spec in signature.inputs if spec.name in pair.feed),
        tuple(_tensor(spec, answers) for spec in signature.outputs),
    )


def _tensor(spec: TensorSpec, named: Feed) -> VectorTensor:
    array = np.asarray(named[spec.name])
    if spec.dtype == "BYTES":
        texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.ravel()]
        return VectorTensor(spec.name, spec.dtype, array.shape, texts=tuple(texts))
    plain: NDArray[Any] = np.ascontiguousarray(array.astype(DTYPES[spec.dtype].numpy))
    return VectorTensor(spec.name, spec.dtype, array.shape, plain.tobytes())


def _size(pair: Pair) -> int:
    return sum(array.nbytes for feed in (pair.feed, pair.original) for array in feed.values())
