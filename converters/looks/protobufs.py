"""Models that are protocol buffers, told apart by their outermost fields, which are walked over and never parsed.

Sources: onnx.proto (ModelProto), graph.proto and saved_model.proto (TensorFlow), Model.proto (Core ML), caffe.proto
(NetParameter), framework.proto (Paddle).
"""

from collections.abc import Iterator
from typing import NamedTuple

from converters.content import Content
from converters.detected import Detected
from converters.looks.refusals import refused

MAX_FIELDS = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """`value` of a number; of bytes their length, with the first of them in `start`."""

    number: int
    kind: int
    value: int
    start: bytes


class _NoProtobufError(Exception):
    pass


def outer_fields(content: Content) -> list[Field]:
    """The first fields; none where the file is not one message to its end, as far as was looked."""
    try:
        return list(_walk(content))
    except _NoProtobufError:
        return []


def _walk(content: Content) -> Iterator[Field]:
    at = 0
    for _ in range(MAX_FIELDS):
        if at >= content.size_bytes:
            return
        window = content.read(at, 128)
        tag, used = _varint(window, 0)
        number, kind = tag >> 3, tag & 7
        if not number or number > 5000:
            raise _NoProtobufError
        if kind == _VARINT:
            value, used = _varint(window, used)
            yield Field(number, kind, value, b"")
            at += used
        elif kind == _BYTES:
            length, used = _varint(window, used)
            if at + used + length > content.size_bytes:
                raise _NoProtobufError
            yield Field(number, kind, length, window[used : used + min(length, 64)])
            at += used + length
        elif kind in (_FIXED64, _FIXED32):
            yield Field(number, kind, 0, b"")
            at += used + (8 if kind == _FIXED64 else 4)
        else:
            raise _NoProtobufError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise _NoProtobufError


def protobuf(content: Content) -> Detected | None:
    """An ONNX model, a frozen graph, a SavedModel's file, or one that is refused."""
    if content.is_folder or not content.head or content.head[:1] in b"{<(#c\x80\x89P\n"[:8]:
        return None
    fields = outer_fields(content)
    if not fields:
        return None
    kinds = {field.number: field.kind for field in fields}
    first = fields[0]
    # Core ML names its model by a field of 200 or more; the version and the description stand before it.
    if kinds.get(1) == _VARINT and kinds.get(2, _BYTES) == _BYTES and any(200 <= n <= 3000 for n in kinds):
        return refused("coreml")
    if kinds.get(7) == _BYTES and max(kinds) <= 26 and kinds.get(1, _VARINT) == _VARINT:
        return Detected(format="onnx", what="an ONNX model")
    if kinds.get(1) == _VARINT and kinds.get(2) == _BYTES and set(kinds) == {1, 2}:
        return refused_saved_model()
    if kinds.get(100) == _BYTES or (first.number == 1 and _looks_like_name(first) and kinds.get(2) == _BYTES):
        return refused("caffe")
    if kinds.get(1) == _BYTES and max(kinds) <= 5:
        if first.start[:1] == b"\x08":
            return Detected(format="paddle-legacy", what="a Paddle model in its old form")
        return _graph(fields)
    return None


def refused_saved_model() -> Detected:
    way = "give the folder that it lies in, with `variables` beside it"
    return Detected(format="saved-model-file", what="the file of a SavedModel", refusal=way)


def _graph(fields: list[Field]) -> Detected | None:
    """GraphDef: nodes, each beginning with its name."""
    nodes = [field for field in fields if field.number == 1]
    if nodes and all(node.start[:1] == b"\x0a" for node in nodes):
        return Detected(format="frozen-graph", what="a TensorFlow graph")
    return None


def _looks_like_name(field: Field) -> bool:
    """A network's name, and not a message, which would begin with a tag and a length."""
    text = field.start
    return (
        field.kind == _BYTES
        and 0 < field.value < 200
        and text[:1] > b" "
        and text.isascii()
        and text.decode().isprintable()
    )


LOOKS = (protobuf,)
