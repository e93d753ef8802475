"""Which calls may go to a peer as one call of all their rows, how they are put together, and how its answer is cut.

Pure; in the gateway, so that no tensor's elements are read: rows are cut by sizes alone, which texts do not have.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import orjson

from appliance.core.errors import WorkerFailedError
from appliance.core.frames import AnswerForm, Encoding, Invoke, OutputWish, TensorHead
from appliance.core.requests import Buffer, Part
from appliance.core.tensors import DTYPES, TensorSpec, element_count

# Above this a call's bytes weigh more than what is done for each call.
MAX_CALL_BYTES = 4 * 1024

_RAW, _TENSORS, _V2_JSON = int(Encoding.RAW), int(AnswerForm.TENSORS), int(AnswerForm.V2_JSON)


class Alike(NamedTuple):
    """What calls must share to be one. `outputs`: the names of those that are asked for, None for all of them."""

    form: int
    priority: int
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]  # name, dtype, shape of a row
    outputs: tuple[str, ...] | None


class OneAnswer(NamedTuple):
    """As a worker would have answered one of the calls."""

    heads: list[TensorHead]
    text_size: int
    body: bytes


def gives_rows(outputs: Sequence[TensorSpec]) -> bool:
    """Whether a model's outputs can be cut into rows by their sizes."""
    return all(spec.dtype != "BYTES" and spec.shape for spec in outputs)


def alike(invoke: Invoke, parts: Sequence[Part], priority: int) -> tuple[Alike, int] | None:
    """What this call shares with those that it may be joined to, and its rows; None for one that goes by itself.

    Its sizes were found to fit its shapes (routing/admission.py): otherwise one caller's bytes would be another's.
    """
    if invoke.form not in (_TENSORS, _V2_JSON) or not invoke.tensors:
        return None
    if invoke.form == _V2_JSON and invoke.outputs is None and not invoke.binary:
        return None
    outputs = None
    if invoke.outputs is not None:
        for wish in invoke.outputs:
            if wish.class_count or wish.shared is not None or not (wish.binary or invoke.form == _TENSORS):
                return None
        outputs = tuple(wish.name for wish in invoke.outputs)
    rows, size_bytes = -1, 0
    tensors = []
    for tensor in invoke.tensors:
        shape = tensor.shape
        if tensor.encoding != _RAW or tensor.offset >= 0 or tensor.dtype == "BYTES" or not shape:
            return None
        if shape[0] < 1 or rows not in (-1, shape[0]):
            return None
        rows = shape[0]
        size_bytes += tensor.size_bytes
        tensors.append((tensor.name, tensor.dtype, tuple(shape[1:])))
    if size_bytes > MAX_CALL_BYTES or not all(isinstance(part, bytes | bytearray | memoryview) for part in parts):
        return None
    return Alike(invoke.form, priority, tuple(tensors), outputs), rows


def joined(
    shared: Alike, rows: int, calls: Sequence[Sequence[Part]]
) -> tuple[list[TensorHead], list[bytes], list[OutputWish] | None]:
    """The tensors of all calls' rows, in the calls' order, from the parts of each; their bytes; and what is asked for,
    as raw tensors."""
    heads, bodies = [], []
    for index, (name, dtype, row) in enumerate(shared.tensors):
        body = b"".join([cast("Buffer", parts[index]) for parts in calls])
        heads.append(TensorHead(name, dtype, [rows, *row], _RAW, len(body)))
        bodies.append(body)
    wishes = None if shared.outputs is None else [OutputWish(name, True) for name in shared.outputs]
    return heads, bodies, wishes


def answers(shared: Alike, heads: Sequence[TensorHead], body: bytes, counts: Sequence[int]) -> list[OneAnswer]:
    """Each call's own rows of the answer to all, as it asked for them. `counts`: the calls' rows, in their order.

    Raises WorkerFailedError where the answer does not have their rows.
    """
    rows = sum(counts)
    row_bytes: list[int] = []
    for head in heads:
        dtype = DTYPES.get(head.dtype)
        if dtype is None or head.dtype == "BYTES" or head.encoding != _RAW or not head.shape or head.shape[0] != rows:
            raise WorkerFailedError(f"the output '{head.name[:100]}' does not have the rows of the calls")
        if min(head.shape) < 0 or head.size_bytes != element_count(head.shape) * dtype.size_bytes:
            raise WorkerFailedError(f"the size of the output '{head.name[:100]}' does not fit its shape")
        row_bytes.append(head.size_bytes // rows)
    if sum(head.size_bytes for head in heads) != len(body):
        raise WorkerFailedError("the answer's sizes do not add up")
    as_text = shared.form == _V2_JSON
    shapes: dict[int, tuple[list[TensorHead], bytes]] = {}  # by how many rows a call has: most have one
    cut = []
    first = 0
    for count in counts:
        if count not in shapes:
            shapes[count] = _described(heads, row_bytes, count, as_text)
        own, text = shapes[count]
        pieces, start = [text], 0
        for head, size in zip(heads, row_bytes, strict=True):
            pieces.append(body[start + first * size : start + (first + count) * size])
            start += head.size_bytes
        cut.append(OneAnswer([] if as_text else own, len(text), b"".join(pieces)))
        first += count
    return cut


def _described(
    heads: Sequence[TensorHead], row_bytes: Sequence[int], count: int, as_text: bool
) -> tuple[list[TensorHead], bytes]:
    """The heads of so many rows, and V2's text for them where that is asked for, as workers/outputs.py writes it."""
    own = [
        TensorHead(head.name, head.dtype, [count, *head.shape[1:]], _RAW, count * size)
        for head, size in zip(heads, row_bytes, strict=True)
    ]
    if not as_text:
        return own, b""
    text = [
        {
            "name": head.name,
            "datatype": head.dtype,
            "shape": head.shape,
            "parameters": {"binary_data_size": head.size_bytes},
        }
        for head in own
    ]
    return own, orjson.dumps(text)
