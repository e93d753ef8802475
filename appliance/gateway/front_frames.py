"""What a front process and the main process say to each other, in the layout of core/frames.py.

Used by both ends. A front sends CALL and may send GONE after it; every CALL is closed by exactly one of REPLY, REFUSAL
and RELEASED, and until then its tensors in the front's shared memory stay as they are. WHO asks whether a key is one,
before a large body is waited for, and is answered by KNOWN or REFUSAL. The main process begins with HELLO, the front
answers READY; STOP asks the front to finish what it has and end.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from operator import attrgetter
from typing import Any

import msgspec

from appliance.core.errors import BadInputError, IngleError, error_from_code
from appliance.core.frames import LAYOUT_VERSION, PREFIX, TensorHead
from appliance.core.requests import Buffer, CallAnswer, CallRequest, Seconds

REGION_BYTES = 64 * 1024 * 1024
# As from gateway to worker: what is smaller goes through the socket.
REGION_FROM_BYTES = 32 * 1024


class FrontKind(IntEnum):
    HELLO = 32
    READY = 33
    CALL = 34
    GONE = 35
    REPLY = 36
    REFUSAL = 37
    RELEASED = 38
    STOP = 39
    WHO = 40
    KNOWN = 41


class Hello(msgspec.Struct, array_like=True):
    """What a front must know. `http` and `grpc` are HOST:PORT or empty; `share` fronts divide the node's bounds on
    connections and on bytes held; `tls` is chain file, key file, chain, key."""

    node_name: str
    http: str
    grpc: str
    share: int
    max_body_bytes: int
    max_connections: int
    max_held_bytes: int
    tls: tuple[str, str, bytes, bytes] | None = None


class Ready(msgspec.Struct, array_like=True):
    """The front listens; or, where `error` says so, cannot."""

    error: str = ""


class Who(msgspec.Struct, array_like=True):
    """Is this a caller's key?"""

    number: int
    authorization: str | None


class Reply(msgspec.Struct, array_like=True):
    """A CallAnswer but for its body, which is the frame's."""

    number: int
    call: str
    model: str
    version: str
    ordinal: int
    tensors: list[TensorHead]
    text_size: int
    seconds: tuple[float, float, float, float]
    node: str = ""
    route: str = ""


class Refusal(msgspec.Struct, array_like=True):
    """An IngleError."""

    number: int
    code: str
    sentence: str
    call: str = ""
    retry_after_s: float | None = None


class Number(msgspec.Struct, array_like=True):
    """GONE: nobody waits for this call any more. RELEASED: nothing reads its tensors any more. KNOWN: it is a key."""

    number: int


class Stop(msgspec.Struct, array_like=True):
    """Calls under way have so long."""

    grace_s: float


# A field that CallRequest gets later travels by itself. Its parts are the frame's body; a call whose outputs go to
# memory that its caller shares never comes this way, since that memory is the main process's to open. Both are at the
# end, where an array may lack them, so that what is decoded has all that a CallRequest has, and serves as one.
_SENT = tuple(f for f in msgspec.structs.fields(CallRequest) if f.name not in ("parts", "memory_outputs"))
_ASKED: Any = msgspec.defstruct(
    "_Asked",
    [
        *((f.name, f.type) if f.required else (f.name, f.type, f.default) for f in _SENT),
        ("parts", Any, None),
        ("memory_outputs", Any, None),
    ],
    array_like=True,
)
_values = attrgetter(*(field.name for field in _SENT))


class Call(msgspec.Struct, array_like=True):
    """`request` is a CallRequest but for its parts: they are in the body in order, or in the front's shared memory at
    their head's `offset`. Who calls, the main process finds out."""

    number: int
    authorization: str | None
    request: _ASKED


encode = msgspec.msgpack.Encoder().encode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_ready = msgspec.msgpack.Decoder(Ready).decode
decode_who = msgspec.msgpack.Decoder(Who).decode
decode_call = msgspec.msgpack.Decoder(Call).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode
decode_refusal = msgspec.msgpack.Decoder(Refusal).decode
decode_number = msgspec.msgpack.Decoder(Number).decode
decode_stop = msgspec.msgpack.Decoder(Stop).decode


def frame(kind: FrontKind, head: msgspec.Struct, body_size: int = 0) -> bytes:
    """The prefix and the head; the caller sends `body_size` bytes of body after it."""
    packed = encode(head)
    return PREFIX.pack(LAYOUT_VERSION, kind, 0, len(packed), body_size) + packed


def call_start(number: int, authorization: str | None, request: CallRequest, body_size: int) -> bytes:
    """The prefix and the head of a CALL. Raises BadInputError where the request holds what msgpack cannot: numbers
    beyond 64 bits, half a surrogate."""
    try:
        packed = encode((number, authorization, _values(request)))
    except (OverflowError, UnicodeError) as error:
        raise BadInputError(f"the request cannot be passed on: {error}") from None
    return PREFIX.pack(LAYOUT_VERSION, FrontKind.CALL, 0, len(packed), body_size) + packed


def read_call(call: Call, parts_of: Callable[[list[TensorHead]], Sequence[Buffer]]) -> CallRequest:
    """The request as it was in the front. `parts_of` gives the parts of a list of TensorHeads."""
    asked: CallRequest = call.request
    asked.parts = parts_of(asked.tensors)
    return asked


def write_reply(number: int, answer: CallAnswer) -> Reply:
    seconds = answer.seconds
    return Reply(
        number,
        answer.call,
        answer.model,
        answer.version,
        answer.ordinal,
        answer.tensors,
        answer.text_size,
        (seconds.queue, seconds.load, seconds.run, seconds.total),
        answer.node,
        answer.route,
    )


def read_reply(reply: Reply, body: bytes) -> CallAnswer:
    return CallAnswer(
        reply.call,
        reply.node,
        reply.model,
        reply.version,
        reply.ordinal,
        reply.tensors,
        body,
        reply.text_size,
        Seconds(*reply.seconds),
        reply.route,
    )


def write_refusal(number: int, error: IngleError) -> Refusal:
    return Refusal(number, error.code, error.sentence, error.call, error.retry_after_s)


def read_refusal(refusal: Refusal) -> IngleError:
    error = error_from_code(refusal.code, refusal.sentence)
    error.call, error.retry_after_s = refusal.call, refusal.retry_after_s
    return error
