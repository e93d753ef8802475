"""Rows for nets, whose inputs say little: pictures in the ranges that image models take, other numbers of many sizes.
Pure.

A net's own noise grows with what it is given: a picture a hundred times too bright shows rounding and no fault.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.tensors import DTYPES, TensorSpec
from converters.converter import Feed
from converters.rows import FREE, made_tensor

MANY_ELEMENTS = 20_000  # in a row: fewer rows say as much, and an image model is slow
FEW_ROWS = 8
_MIN_SIDE = 16
IDS = (30_000, 1000, 100, 20, 5, 2)


def net_rows(
    specs: Sequence[TensorSpec], shapes: Sequence[Sequence[int]] = (), *, below: int = 2
) -> Callable[[int, np.random.Generator], Feed]:
    """Rows of the specs: free axes beyond the first are as long as in `shapes`, where there are some; whole numbers
    are less than `below`. Where the first axis is fixed, a multiple of it, which parity.py cuts up."""
    sized = [_sized(spec, shapes[index] if index < len(shapes) else ()) for index, spec in enumerate(specs)]
    firsts = {spec.shape[0] if spec.shape else 0 for spec in sized}
    size = firsts.pop() if len(firsts) == 1 else 0

    def rows(count: int, random: np.random.Generator) -> Feed:
        inner = max((int(np.prod(spec.shape[1:], dtype=np.int64)) for spec in sized), default=1)
        few = min(count, FEW_ROWS) if inner > MANY_ELEMENTS else count
        if size > 0:
            few = size * max(1, few // size)
        return {spec.name: _tensor(spec, few, size, random, below) for spec in sized}

    return rows


def reaching_rows(
    answer: Callable[[Feed], Feed], specs: Sequence[TensorSpec], shapes: Sequence[Sequence[int]] = ()
) -> Callable[[int, np.random.Generator], list[Feed]]:
    """net_rows() that reach further where the original can be asked what it takes: whole numbers up to the largest of
    IDS that it answers (an embedding refuses those beyond its rows), from 0 or, where it refuses that, 1; and a second
    feed whose free axes beyond the first are longer, if it answers that."""
    other = [_longer(spec, shapes[index] if index < len(shapes) else ()) for index, spec in enumerate(specs)]
    has_ids = any(spec.dtype.startswith(("INT", "UINT")) for spec in specs)

    def answers(feed: Feed) -> bool:
        try:
            answer(feed)
        except Exception:  # whatever the framework raises
            return False
        return True

    def rows(count: int, random: np.random.Generator) -> list[Feed]:
        below, least = IDS[-1], 0
        if has_ids:
            few = {ids: _from(1, net_rows(specs, shapes, below=ids)(2, np.random.default_rng(0))) for ids in IDS}
            below = next((ids for ids, feed in few.items() if answers(_holding(ids - 1, feed))), below)
            least = 0 if answers(_holding(0, few[below])) or not answers(few[below]) else 1  # lengths have no 0
        feeds = [_from(least, net_rows(specs, shapes, below=below)(count, random))]
        if any(-1 in spec.shape[1:] for spec in specs):
            longer = _from(least, net_rows(specs, other, below=below)(min(count, FEW_ROWS), random))
            feeds += [longer] if answers(longer) else []
        return feeds

    return rows


def _from(least: int, feed: Feed) -> Feed:
    """With no whole number below `least`."""
    return {name: np.maximum(array, least) if array.dtype.kind in "iu" else array for name, array in feed.items()}


def _holding(number: int, feed: Feed) -> Feed:
    """With this whole number somewhere in each input of them."""
    made = {name: array.copy() for name, array in feed.items()}
    for array in made.values():
        if array.dtype.kind in "iu" and array.size:
            array.reshape(-1)[-1] = min(number, np.iinfo(array.dtype).max)
    return made


def _longer(spec: TensorSpec, shape: Sequence[int]) -> tuple[int, ...]:
    """Axes of one length get another one together; what halves must come out whole for stays even."""
    sizes = [shape[axis] if axis < len(shape) else FREE for axis in range(len(spec.shape))]
    return tuple(
        size if axis == 0 or free >= 0 else (size * 2 if size >= _MIN_SIDE else size + 3)
        for axis, (free, size) in enumerate(zip(spec.shape, sizes, strict=True))
    )


def _sized(spec: TensorSpec, shape: Sequence[int]) -> TensorSpec:
    rest = [
        axis_size if axis_size >= 0 else (shape[axis] if axis < len(shape) else FREE)
        for axis, axis_size in enumerate(spec.shape)
    ]
    return TensorSpec(spec.name, spec.dtype, (*spec.shape[:1], *rest[1:]))


def _tensor(spec: TensorSpec, count: int, size: int, random: np.random.Generator, below: int) -> NDArray[Any]:
    shape = (count, *spec.shape[1:]) if size else spec.shape
    if _is_picture(spec) and shape[0] > 0:
        return _pictures(shape, random).astype(DTYPES[spec.dtype].numpy)
    return made_tensor(TensorSpec(spec.name, spec.dtype, shape), count, random, below=below)


def _is_picture(spec: TensorSpec) -> bool:
    if len(spec.shape) != 4 or not spec.dtype.startswith("FP"):
        return False
    sides = spec.shape[1:3] if spec.shape[3] in (1, 3, 4) else spec.shape[2:4]
    return (spec.shape[3] in (1, 3, 4) or spec.shape[1] in (1, 3, 4)) and min(sides) >= _MIN_SIDE


def _pictures(shape: Sequence[int], random: np.random.Generator) -> NDArray[np.float64]:
    """Noise of 0 to 1 and of -1 to 1, slopes, and one picture each of zeros, ones and minus ones."""
    pictures = random.random(shape)
    for index in range(1, shape[0], 3):
        pictures[index] = pictures[index] * 2 - 1
    for index in range(2, shape[0], 3):
        slope = np.linspace(0, 1, int(np.prod(shape[1:])), dtype=np.float64).reshape(shape[1:])
        pictures[index] = 0.9 * slope + 0.1 * pictures[index]
    for index, value in enumerate((0.0, 1.0, -1.0), start=3):
        if index < shape[0]:
            pictures[index] = value
    return pictures
