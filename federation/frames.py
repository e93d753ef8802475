"""The mesh's messages (messages.py) as parts of a ZeroMQ message, and back. Pure; any process.

The layout is core/frames.py's. What comes from a peer is believed in nothing: whatever is wrong with it, there is one
error for it.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from appliance.core.errors import BadInputError
from appliance.core.frames import LAYOUT_VERSION, MAX_HEAD_BYTES, PREFIX, PREFIX_SIZE
from appliance.core.requests import Buffer
from appliance.core.tensor_bodies import cut
from federation.messages import KIND_OF, Head, MeshInvoke, Pack

MAX_PARTS = 1024  # of a message
# Below this a copy costs less than a part of its own.
PART_FROM_BYTES = 32 * 1024
MAX_PACK_BYTES = PART_FROM_BYTES - 1024  # of the messages in a PACK, so that it is one part
MAX_PACKED = 256  # messages: all are dealt with in one turn of the loop

_encode = msgspec.msgpack.Encoder().encode
_PACK = _encode(Pack())
_DECODERS: dict[int, Callable[[Buffer], Head]] = {
    int(kind): msgspec.msgpack.Decoder(head).decode  # type: ignore[misc]
    for head, kind in KIND_OF.items()
}


class BrokenMessageError(BadInputError):
    """A message that is no frame of this layout, or whose head is not of its kind."""


def message_parts(head: Head, body: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame as the parts of a message: one where the body is small, else each of its buffers a part too.

    The buffers are bytes, or views of bytes. Raises BrokenMessageError where the head is too large to be read.
    """
    packed, size = _encode(head), sum(map(len, body))
    if len(packed) > MAX_HEAD_BYTES:
        raise BrokenMessageError(f"a {type(head).__name__} of {len(packed)} bytes: at most {MAX_HEAD_BYTES} are taken")
    start = PREFIX.pack(LAYOUT_VERSION, KIND_OF[type(head)], 0, len(packed), size) + packed
    if size < PART_FROM_BYTES:
        return [b"".join((start, *body))]
    pieces = [part for part in body if len(part)]
    return [start, *pieces] if len(pieces) < MAX_PARTS else [start, b"".join(pieces)]


def pack_of(frames: Sequence[Buffer]) -> bytes:
    """A PACK of messages that are one part each."""
    size = sum(map(len, frames))
    return b"".join((PREFIX.pack(LAYOUT_VERSION, KIND_OF[Pack], 0, len(_PACK), size), _PACK, *frames))


def packed(body: Sequence[Buffer]) -> Iterator[memoryview]:
    """The messages of a PACK, in their order. Raises BrokenMessageError where it is too large, there are too many, or
    one has not all its bytes; those before it were given."""
    view = memoryview(body[0]) if body else memoryview(b"")
    if len(view) > MAX_PACK_BYTES:
        raise BrokenMessageError(f"a pack has {len(view)} bytes: at most {MAX_PACK_BYTES} are taken")
    start = count = 0
    while start < len(view):
        count += 1
        if count > MAX_PACKED:
            raise BrokenMessageError(f"a pack has more than {MAX_PACKED} messages")
        if len(view) - start < PREFIX_SIZE:
            raise BrokenMessageError(f"a pack ends with {len(view) - start} bytes that are no message")
        _, _, _, head_size, body_size = PREFIX.unpack_from(view, start)
        end = start + PREFIX_SIZE + head_size + body_size
        if end > len(view):
            raise BrokenMessageError(
                f"a message in a pack has {end - start} bytes, and {len(view) - start} of them came"
            )
        yield view[start:end]
        start = end


def read_message(parts: Sequence[Buffer]) -> tuple[Head, list[Buffer]] | None:
    """The head of a message and its body's buffers; None for a kind that only later versions know.

    An INVOKE has one buffer for each tensor of its head; any other message one for the whole body, or none where that
    is empty. What came as a part of its own is handed on without a copy. Raises BrokenMessageError.
    """
    first = memoryview(parts[0])
    if len(first) < PREFIX_SIZE:
        raise BrokenMessageError(f"the first part has {len(first)} bytes: a frame begins with {PREFIX_SIZE}")
    version, kind, _, head_size, body_size = PREFIX.unpack_from(first)
    if version != LAYOUT_VERSION:
        raise BrokenMessageError(f"layout version {version} is not spoken here: version {LAYOUT_VERSION} is")
    start = PREFIX_SIZE + head_size
    if head_size > MAX_HEAD_BYTES or start > len(first):
        raise BrokenMessageError(f"the head has {head_size} bytes, and {len(first) - PREFIX_SIZE} of them came")
    if len(parts) > MAX_PARTS:
        raise BrokenMessageError(f"the message has more than {MAX_PARTS} parts")
    decode = _DECODERS.get(kind)
    if decode is None:
        return None
    try:
        head = decode(first[PREFIX_SIZE:start])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenMessageError(f"the head is not that of a message of kind {kind}: {error}") from None
    pieces = [part for part in (first[start:], *parts[1:]) if len(part)]
    given = sum(map(len, pieces))
    if given != body_size:
        raise BrokenMessageError(f"the body's size is given as {body_size} bytes, but {given} came")
    return head, _bodies(head, pieces, body_size)


def _bodies(head: Head, pieces: list[Buffer], body_size: int) -> list[Buffer]:
    if not isinstance(head, MeshInvoke):
        return pieces if len(pieces) <= 1 else [b"".join(pieces)]
    sizes = [tensor.size_bytes for tensor in head.tensors]
    if min(sizes, default=0) < 0 or sum(sizes) != body_size:
        raise BrokenMessageError(f"the tensors have {sum(sizes)} bytes by their heads, but the body has {body_size}")
    return cut(pieces, sizes)
