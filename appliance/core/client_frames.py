"""What clients and a node say to each other over ZeroMQ, in the frames of core/frames.py. docs/zeromq.md has the bytes.

A ZeroMQ message is one frame. It may be cut into parts anywhere behind its head; cut between tensors, large ones are
not copied. Heads are msgpack arrays: fields are only ever added at the end, a reader passes over those that it does not
know and gives those that it misses their defaults.
"""

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from appliance.core.errors import BadInputError
from appliance.core.frames import LAYOUT_VERSION, PREFIX, PREFIX_SIZE
from appliance.core.requests import Buffer
from appliance.core.tensor_bodies import cut

MAX_CLIENT_HEAD_BYTES = 256 * 1024
MAX_PARTS = 1024  # of a message
MAX_CALL_NUMBER = 2**63 - 1
# Below this a copy costs less than a part of its own.
PART_FROM_BYTES = 32 * 1024


class ClientKind(IntEnum):
    """Kinds of a client's frames; a worker's are below 16."""

    CALL = 16  # client: run a model once
    RESULT = 17  # node: the outputs of a CALL
    QUERY = 18  # client: V2's operations besides inference
    REPLY = 19  # node: the JSON text that answers a QUERY
    FAULT = 20  # node: why a CALL or a QUERY was not answered


class Tensor(msgspec.Struct, array_like=True, frozen=True):
    """One tensor in the body: RAW or JSON (frames.Encoding). A worker's may lie elsewhere, a client's not."""

    name: str
    dtype: str
    shape: list[int]
    encoding: int
    size_bytes: int


class WantedOutput(msgspec.Struct, array_like=True, frozen=True):
    """One output that the caller wants. `class_count` > 0 asks for V2's classification strings in its place."""

    name: str
    class_count: int = 0


class Call(msgspec.Struct, array_like=True):
    """Run `model` once on the tensors in the body. `call` is the caller's number for it, which the answer carries.

    `version`: empty for the default, a version, an alias, or V2's ordinal. `outputs` None: all. `key`: the API key.
    `deadline_ms` counts from the call's arrival; 0: the node's default. `pin` and `explain` as the headers
    X-Ingle-Pin and X-Ingle-Explain. `parameters`: V2's, such as `priority`.
    """

    call: int
    model: str
    version: str = ""
    tensors: list[Tensor] = []
    outputs: list[WantedOutput] | None = None
    key: str = ""
    deadline_ms: float = 0.0
    pin: str = ""
    explain: bool = False
    parameters: dict[str, bool | int | float | str] = {}


class Result(msgspec.Struct, array_like=True):
    """The outputs of a call, RAW in the body. `id` names the call on the node, `model` is owner/name, `ordinal` V2's
    version, `seconds` where the time went, `route` the explanation where one was asked for."""

    call: int
    tensors: list[Tensor]
    id: str
    node: str
    model: str
    version: str
    ordinal: int
    seconds: tuple[float, float, float, float]
    route: str = ""


class Query(msgspec.Struct, array_like=True):
    """Ask something; the REPLY's body is the JSON that V2's REST front would answer.

    `operation`: live, ready, server_metadata, model_ready, model_metadata, model_config, statistics, index, load,
    unload. `ready_only`: for the index, only what could answer.
    """

    call: int
    operation: str
    model: str = ""
    version: str = ""
    key: str = ""
    ready_only: bool = False


class Reply(msgspec.Struct, array_like=True):
    """The body is the JSON text that answers a query."""

    call: int
    node: str


class Fault(msgspec.Struct, array_like=True):
    """Why there is no answer. `code` is a word of core.errors, `sentence` for people. `call` 0: the message was so
    broken that its call is not known. `retry_after_s` 0: nothing is known of when it might pass."""

    call: int
    code: str
    sentence: str
    id: str = ""
    node: str = ""
    retry_after_s: float = 0.0


Head = Call | Result | Query | Reply | Fault

_encode = msgspec.msgpack.Encoder().encode
_KINDS: dict[type[msgspec.Struct], int] = {
    Call: ClientKind.CALL,
    Result: ClientKind.RESULT,
    Query: ClientKind.QUERY,
    Reply: ClientKind.REPLY,
    Fault: ClientKind.FAULT,
}
_DECODERS = {int(kind): msgspec.msgpack.Decoder(head) for head, kind in _KINDS.items()}


class BrokenFrameError(BadInputError):
    """A message that is no frame of this layout. `call` is its number as far as it could be read, else 0."""

    def __init__(self, sentence: str, number: int = 0) -> None:
        super().__init__(sentence)
        self.number = number


def message_parts(head: Head, body: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame as the parts of a ZeroMQ message: one where the body is small, else each of its buffers a part too.

    The buffers are bytes, or views of bytes.
    """
    packed, size = _encode(head), sum(map(len, body))
    start = PREFIX.pack(LAYOUT_VERSION, _KINDS[type(head)], 0, len(packed), size) + packed
    if size < PART_FROM_BYTES:
        return [b"".join((start, *body))]
    pieces = [part for part in body if len(part)]
    return [start, *pieces] if len(pieces) < MAX_PARTS else [start, b"".join(pieces)]


def read_message(parts: Sequence[Buffer]) -> tuple[Head, list[Buffer]]:
    """The head of a message and its body's buffers, one for each tensor of the head (one in all where it has none).

    Whole parts are handed on as they are, without a copy. Raises BrokenFrameError.
    """
    first = memoryview(parts[0])
    if len(first) < PREFIX_SIZE:
        raise BrokenFrameError(f"the message's first part has {len(first)} bytes: a frame begins with {PREFIX_SIZE}")
    version, kind, _, head_size, body_size = PREFIX.unpack_from(first)
    if version != LAYOUT_VERSION:
        raise BrokenFrameError(f"layout version {version} is not spoken here: version {LAYOUT_VERSION} is")
    start = PREFIX_SIZE + head_size
    if head_size > MAX_CLIENT_HEAD_BYTES or start > len(first):
        raise BrokenFrameError(
            f"the head's size is given as {head_size} bytes: it must lie whole in the message's first part, of which "
            f"{len(first) - PREFIX_SIZE} are left, and have at most {MAX_CLIENT_HEAD_BYTES}"
        )
    head = _read_head(kind, first[PREFIX_SIZE:start])
    if not (0 < head.call <= MAX_CALL_NUMBER or isinstance(head, Fault)):
        raise BrokenFrameError("the call's number must be from 1 to 2**63 - 1")
    pieces = [part for part in (first[start:], *parts[1:]) if len(part)]
    given = sum(map(len, pieces))
    if given != body_size:
        raise BrokenFrameError(f"the body's size is given as {body_size} bytes, but {given} came", head.call)
    return head, _bodies(head, pieces, body_size)


def _read_head(kind: int, packed: memoryview) -> Head:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        kinds = ", ".join(f"{one.value} {one.name}" for one in ClientKind)
        raise BrokenFrameError(f"a frame of kind {kind} is unknown here: expected one of {kinds}")
    try:
        return decoder.decode(packed)  # type: ignore[return-value]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenFrameError(f"the head is not that of a {ClientKind(kind).name}: {error}", _number(packed)) from None


class _Numbered(msgspec.Struct, array_like=True):
    call: int


_decode_number = msgspec.msgpack.Decoder(_Numbered).decode


def _number(packed: memoryview) -> int:
    """The call's number in a head that is otherwise broken, or 0."""
    try:
        number = _decode_number(packed).call
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    return number if 0 < number <= MAX_CALL_NUMBER else 0


def _bodies(head: Head, pieces: list[Buffer], body_size: int) -> list[Buffer]:
    if not isinstance(head, Call | Result):
        return [pieces[0] if len(pieces) == 1 else b"".join(pieces)]
    sizes = [tensor.size_bytes for tensor in head.tensors]
    if min(sizes, default=0) < 0 or sum(sizes) != body_size:
        raise BrokenFrameError(
            f"the tensors' sizes add up to {sum(sizes)} bytes, but the body has {body_size}", head.call
        )
    return cut(pieces, sizes)
