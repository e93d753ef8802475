"""A file's bytes as numbers, whole or as windows on its head and tail. Runs in a worker process.

The windows are what file-type models are trained on: of a block at each end, white space stripped on the outer side,
so many bytes, and padding where there are fewer. The two blocks of a short file are the same bytes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import BadInputError
from appliance.core.manifest import BytesInput
from appliance.core.tensors import DTYPES, TensorSpec
from appliance.workers.plain import values
from appliance.workers.plain.shapes import fitted_shape
from appliance.workers.plain.text import decoded, text_tensor

Array = NDArray[Any]
WHITE_SPACE = b" \t\n\r\x0b\x0c"


def window(body: bytes | memoryview, declared: BytesInput) -> Array:
    """The numbers of one content, `head + tail` of them (all the bytes where neither is declared), as int64."""
    if not declared.head and not declared.tail:
        return np.frombuffer(body, np.uint8).astype(np.int64)
    block = min(declared.block, len(body)) if declared.block else len(body)
    first, last = bytes(body[:block]), bytes(body[len(body) - block :])
    if declared.strip:
        first, last = first.lstrip(WHITE_SPACE), last.rstrip(WHITE_SPACE)
    numbers = np.full(declared.head + declared.tail, declared.padding, np.int64)
    head = np.frombuffer(first[: declared.head], np.uint8)
    tail = np.frombuffer(last[max(len(last) - declared.tail, 0) :], np.uint8)
    numbers[: len(head)] = head
    numbers[len(numbers) - len(tail) :] = tail
    return numbers


def bytes_tensor(spec: TensorSpec, declared: BytesInput, body: bytes | memoryview) -> Array:
    """The input's tensor. Raises BadInputError where the numbers fit neither the input's dtype nor its shape."""
    if spec.dtype == "BYTES":
        return text_tensor(spec, decoded(body, ""))
    numbers = window(body, declared)
    if not numbers.size:
        raise BadInputError("the content is empty: send the file's bytes")
    windowed = bool(declared.head or declared.tail)
    room = _room(spec)
    if not windowed and room and numbers.size < room:
        numbers = np.concatenate([numbers, np.full(room - numbers.size, declared.padding, np.int64)])
    if fitted_shape(spec.shape, numbers.shape) is None:
        raise BadInputError(
            f"input '{spec.name}' takes shape {values.described(spec)}, but {numbers.size} numbers came of the "
            "content: declare in the manifest how many bytes of its head and tail the model wants (head, tail, padding)"
        )
    target = np.dtype(DTYPES[spec.dtype].numpy)
    if target.kind in "iu" and spec.dtype != "BF16":
        lowest, highest = int(numbers.min()), int(numbers.max())
        if lowest < np.iinfo(target).min or highest > np.iinfo(target).max:
            raise BadInputError(
                f"input '{spec.name}' is {spec.dtype}, which cannot hold all of {lowest} to {highest}: "
                "bytes are 0-255, and the manifest's padding must be in the type's range too"
            )
    if target.kind == "b":
        raise BadInputError(f"input '{spec.name}' is BOOL, which bytes are not: declare another kind of input")
    array = values.bfloat16_bits(numbers.astype(np.float32)) if spec.dtype == "BF16" else numbers.astype(target)
    return values.shaped(spec, array, numbers.shape)


def _room(spec: TensorSpec) -> int:
    """How many numbers the input takes, where its shape fixes that but for a batch axis; else 0."""
    row = spec.shape[1:] if len(spec.shape) > 1 else spec.shape
    if not row or -1 in row or (len(spec.shape) > 1 and spec.shape[0] not in (-1, 1)):
        return 0
    return int(np.prod(row))
