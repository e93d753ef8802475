"""Whether two answers to one call say the same, and by how much they differ: for shadows.

Pure, without numpy since this is the gateway, and bounded: answers larger than MAX_BYTES are only told equal or not.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from appliance.core.frames import Answer, AnswerForm

MAX_BYTES = 1024 * 1024
# memoryview's letter for each V2 type that it can read; FP16 needs struct, BF16 is the upper half of an FP32.
_LETTERS = {
    "FP32": "f",
    "FP64": "d",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "BOOL": "?",
}


class Difference(NamedTuple):
    """`comparable` is False where shapes, types or words differ, so that no number says by how much."""

    same: bool
    comparable: bool
    absolute: float = 0.0  # the largest
    relative: float = 0.0  # the largest, against the larger of the two


SAME = Difference(True, True)
_UNLIKE = Difference(False, False)


def compare(form: int, one: tuple[Answer, bytes], other: tuple[Answer, bytes]) -> Difference:
    """How far two answers in the same form are apart."""
    (one_head, one_body), (other_head, other_body) = one, other
    if one_body == other_body and one_head.tensors == other_head.tensors:
        return SAME
    if max(len(one_body), len(other_body)) > MAX_BYTES:
        return _UNLIKE
    try:
        pairs = list(zip(_values(form, one_head, one_body), _values(form, other_head, other_body), strict=True))
    except (ValueError, TypeError, KeyError, struct.error):
        return _UNLIKE
    absolute = relative = 0.0
    for left, right in pairs:
        if left == right or (left != left and right != right):  # NaN is like NaN
            continue
        if isinstance(left, str) or isinstance(right, str):
            return _UNLIKE
        apart = abs(left - right)
        if apart != apart:
            return _UNLIKE
        absolute = max(absolute, apart)
        relative = max(relative, apart / max(abs(left), abs(right)))
    return Difference(False, True, absolute, relative)


def _values(form: int, head: Answer, body: bytes) -> Iterator[Any]:
    """All numbers and words of an answer, one after the other, with what names them."""
    if form == AnswerForm.TENSORS:
        yield from _raw(head.tensors, body)
    elif form == AnswerForm.V2_JSON:
        outputs = orjson.loads(body[: head.text_size])
        yield from _leaves(outputs)
        yield from _binary(outputs, body[head.text_size :])
    else:
        yield from _leaves(orjson.loads(b"{" + body + b"}"))


def _raw(heads: Any, body: bytes) -> Iterator[Any]:
    start = 0
    for head in heads:
        yield f"{head.name} {head.dtype} {head.shape}"
        yield from _numbers(head.dtype, body[start : start + head.size_bytes])
        start += head.size_bytes


def _binary(outputs: list[dict[str, Any]], body: bytes) -> Iterator[Any]:
    start = 0
    for output in outputs:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        yield from _numbers(output["datatype"], body[start : start + size])
        start += size


def _numbers(dtype: str, data: bytes) -> Iterator[Any]:
    if dtype in _LETTERS:
        yield from memoryview(data).cast(_LETTERS[dtype])  # type: ignore[call-overload]
    elif dtype == "FP16":
        yield from struct.unpack(f"<{len(data) // 2}e", data)
    elif dtype == "BF16":
        halves = struct.unpack(f"<{len(data) // 2}H", data)
        yield from struct.unpack(f"<{len(halves)}f", struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves)))
    else:
        yield data.decode("utf-8", errors="replace")


def _leaves(value: Any) -> Iterator[Any]:
    """Depth first; a member's name is a word among the values."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _leaves(member)
    elif isinstance(value, list):
        for member in value:
            yield from _leaves(member)
    elif value is None:
        yield "null"
    else:
        yield value
