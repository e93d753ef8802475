"""Rows made from what a model declares of its inputs, for models that know nothing more of themselves. Pure.

Real numbers of many sizes and both signs, edge values, whole numbers from zero up, texts in several scripts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.tensors import DTYPES, TensorSpec
from converters.converter import Feed

FREE = 8  # the size of a free axis that is not the batch's

TEXTS = (
    "", "a", "The quick brown fox jumps over the lazy dog.", "Füße, naïve café, Ångström, señor, čeština",
    "ΑΒΓ αβγ ς", "Привет, мир", "日本語のテキスト", "한국어", "שלום", "مرحبا", "🙂 emoji 👩‍👩‍👧 flags 🇩🇪",
    "tabs\tand\nlines", "  spaces  around  ", "UPPER lower MiXeD", "1,234.56 -7e8", "<b>html</b> & \"quotes\"",
    "e\u0301 decomposed", "İstanbul \u0131I", "a" * 300,
)  # fmt: skip


def made_feed(inputs: Sequence[TensorSpec], count: int, random: np.random.Generator, *, below: int = 5) -> Feed:
    """`count` rows where the first axis is free. Whole numbers are less than `below`."""
    return {spec.name: made_tensor(spec, count, random, below=below) for spec in inputs}


def made_tensor(spec: TensorSpec, count: int, random: np.random.Generator, *, below: int = 5) -> NDArray[Any]:
    """One input of made_feed()."""
    batch = spec.dimension_names[0] if spec.dimension_names else ""
    shape = []
    for axis, size in enumerate(spec.shape):
        named_batch = bool(batch) and spec.dimension_names[axis] == batch
        shape.append(size if size >= 0 else count if axis == 0 or named_batch else FREE)
    total = int(np.prod(shape, dtype=np.int64))
    if spec.dtype == "BYTES":
        texts = np.empty(total, object)
        texts[:] = [TEXTS[index % len(TEXTS)] for index in range(total)]
        return texts.reshape(shape)
    if spec.dtype == "BOOL":
        return _mixed(random.integers(0, 2, shape).astype(bool))
    dtype = np.dtype(DTYPES[spec.dtype].numpy)
    if dtype.kind in "iu":
        whole: NDArray[Any] = random.integers(0, below, shape).astype(dtype)
        return whole
    return made_numbers(shape, random).astype(dtype)


def evened(feed: Feed) -> Feed:
    """The same with each row's largest real number 1: int8 measures all rows of a batch by one, so that rows of unlike
    sizes disturb each other."""
    return {name: _evened(array) for name, array in feed.items()}


def _evened(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "f" or array.ndim < 2:
        return array
    most = np.nanmax(np.abs(array), axis=tuple(range(1, array.ndim)), keepdims=True, initial=0.0)
    even: NDArray[Any] = (array / np.where(most == 0, 1, most)).astype(array.dtype)
    return even


def _mixed(flags: NDArray[Any]) -> NDArray[Any]:
    """With both values in every row: a mask that hides everything asks for what nobody defined."""
    if flags.ndim > 1 and flags.shape[-1] > 1:
        flags[..., 0], flags[..., -1] = False, True
    return flags


def made_numbers(shape: Sequence[int], random: np.random.Generator) -> NDArray[np.float64]:
    """Normal numbers, the rows of sizes from 0.01 to 100; the first rows all zeros, ones and minus ones."""
    numbers = random.normal(size=shape)
    if len(shape) > 1:
        numbers = numbers * 10.0 ** random.integers(-2, 3, (shape[0],) + (1,) * (len(shape) - 1))
        for row, value in enumerate((0.0, 1.0, -1.0)[: max(0, shape[0] - 1)]):
            numbers[row] = value
    return numbers
