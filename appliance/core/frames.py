"""The one frame layout: between gateway and worker over a Unix stream socket, and between machines over ZeroMQ.

    offset  size  field
    0       1     layout version, 1
    1       1     kind (Kind)
    2       2     zero, room to grow
    4       4     head size in bytes, unsigned little-endian
    8       8     body size in bytes, unsigned little-endian
    16      head  msgpack array: Invoke, Answer or Failure below; fields are only ever added at the end
    ..      body  tensor buffers and texts one after another, in the order and of the sizes the head gives

A tensor in the body is RAW (little-endian, C order; BYTES elements each behind a 4-byte little-endian length), JSON
(the text of a list, nested or flat, as the caller wrote it), or lies in the REGION of shared memory that was handed to
the worker when it started, at `offset`. So may an answer's body, where its call gave it a place.
"""

import struct
from enum import IntEnum

import msgspec

from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature

LAYOUT_VERSION = 1
PREFIX = struct.Struct("<BBHIQ")
PREFIX_SIZE = PREFIX.size
MAX_HEAD_BYTES = 4 * 1024 * 1024
MAX_BODY_BYTES = 2**31
# Below this a copy through the socket costs less than the bookkeeping of shared memory, and fits the socket's buffer.
REGION_FROM_BYTES = 32 * 1024


class Kind(IntEnum):
    INVOKE = 1
    ANSWER = 2
    FAILURE = 3
    LOADED = 4
    LOAD = 5
    UNLOAD = 6
    HELD = 7
    TRANSLATE = 8


class Encoding(IntEnum):
    """How a tensor's elements, or a plain call's content, are written."""

    RAW = 0
    JSON = 1
    CONTENT = 2  # a plain call's body: what it is, `Invoke.content_type` says


class AnswerForm(IntEnum):
    """What the caller wants back."""

    TENSORS = 0  # every output RAW, described by the head
    V2_JSON = 1  # the text of V2's "outputs" array first (`text_size` bytes), then the binary outputs it describes
    PLAIN = 2  # the text of a plain answer's "outputs" and "labels" members
    GENERATE = 3  # the text of V2's generate: a member for each output, without the braces around them


class SharedPlace(msgspec.Struct, array_like=True, frozen=True):
    """Where a caller wants an output in memory of its own: what it calls the region, and the place in that.

    `start` is where the worker is to put the output in its own shared region, from which the gateway moves it on; -1:
    at the end of the answer's body.
    """

    region: str
    offset: int
    size_bytes: int
    start: int = -1


class TensorHead(msgspec.Struct, array_like=True):
    """One tensor in a frame. `offset` is -1 for the body, else the place in the shared region. `shared`: it is an
    output that its caller finds in memory of its own."""

    name: str
    dtype: str
    shape: list[int]
    encoding: int
    size_bytes: int
    offset: int = -1
    shared: SharedPlace | None = None


class OutputWish(msgspec.Struct, array_like=True, frozen=True):
    """One output that the caller named. `class_count` > 0 asks for V2's classification strings."""

    name: str
    binary: bool = False
    class_count: int = 0
    shared: SharedPlace | None = None


class Invoke(msgspec.Struct, array_like=True):
    """Run the model once on these tensors. `outputs` None: all of them, binary where `binary` says so.

    `sequence` is the gateway's number of the sequence whose state the worker keeps, 0 for none; `forget` are those that
    nobody calls any more. `tenant` says which model, to a worker that holds many.
    """

    call: int
    form: int
    tensors: list[TensorHead]
    outputs: list[OutputWish] | None = None
    binary: bool = False
    content_type: str = ""
    sequence: int = 0
    sequence_start: bool = False
    sequence_end: bool = False
    forget: list[int] = []
    tenant: int = 0
    answer_at: int = -1
    answer_bytes: int = 0


class Answer(msgspec.Struct, array_like=True):
    """The outputs of one call, and where its time went. `rows` and `executions` are for the statistics:
    the first call of a batch counts its one execution and the batch's rows, the others 0. `body_at`: where in the
    shared region the body's `body_bytes` lie; -1: they follow the head. `changed`: the run had other shapes than the
    one before, which on its device is dear: its time says little of the next."""

    call: int
    tensors: list[TensorHead]
    text_size: int = 0
    decode_ns: int = 0
    wait_ns: int = 0
    run_ns: int = 0
    encode_ns: int = 0
    executions: int = 1
    batch_rows: int = 1
    body_at: int = -1
    body_bytes: int = 0
    changed: bool = False


class Failure(msgspec.Struct, array_like=True):
    """Why a call was not answered: a code of core.errors and a sentence."""

    call: int
    code: str
    sentence: str


class Loaded(msgspec.Struct, array_like=True):
    """The worker's first word: its session is open and answers. `error` is set where it could not be opened.
    `from_graph`: it was loaded from a cached optimised graph; `graph_fault`: why one that was offered was not used.
    The rest is the word of a device's worker: which tenant this is of (0: the device itself, tried with a tiny model),
    whether memory was what lacked, what the load took of the device's memory, what is free (-1: not known), and
    what was asked for and not got. `pid` is the worker's own: its word may be read before the zygote's. `engine_kind`:
    with the device itself, what TensorRT's engines depend on there, as one word; empty where it cannot be told."""

    providers: list[str]
    load_ns: int
    error: str = ""
    from_graph: bool = False
    graph_fault: str = ""
    tenant: int = 0
    no_memory: bool = False
    used_bytes: int = 0
    free_bytes: int = -1
    note: str = ""
    pid: int = 0
    engine_kind: str = ""


class Load(msgspec.Struct, array_like=True):
    """To the worker of a device: open this model beside the others, under this number. It answers LOADED. `engines`:
    the folder where its TensorRT engines are, or are to be; empty: they are not kept."""

    tenant: int
    folder: str
    manifest: Manifest
    threads: int
    max_batch: int
    engines: str = ""


class Unload(msgspec.Struct, array_like=True):
    """To the worker of a device: this tenant is called no more. It answers HELD, with `gone`."""

    tenant: int


class Held(msgspec.Struct, array_like=True):
    """From the worker of a device: what a tenant holds of the device's memory after a run, and what is free (-1: not
    known). `gone`: it holds nothing any more; `reason` says why, where nobody asked for that. `ends`: it has left the
    device in a state that nothing in this process can use, so the process ends. Said too where a run has built
    engines."""

    tenant: int
    used_bytes: int
    free_bytes: int
    gone: bool = False
    reason: str = ""
    ends: bool = False


class Translate(msgspec.Struct, array_like=True):
    """To the process that has no model, and reads and writes elements: answer with this call's inputs as RAW tensors;
    or, where `written`, take its tensors for the outputs of the model, and answer as its worker would."""

    invoke: Invoke
    signature: Signature
    written: bool


_encoder = msgspec.msgpack.Encoder()
decode_invoke = msgspec.msgpack.Decoder(Invoke).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
decode_failure = msgspec.msgpack.Decoder(Failure).decode
decode_loaded = msgspec.msgpack.Decoder(Loaded).decode
decode_load = msgspec.msgpack.Decoder(Load).decode
decode_unload = msgspec.msgpack.Decoder(Unload).decode
decode_held = msgspec.msgpack.Decoder(Held).decode
decode_translate = msgspec.msgpack.Decoder(Translate).decode


def frame_start(kind: int, head: msgspec.Struct, body_size: int) -> bytes:
    """The prefix and the head of a frame of a Kind; the caller sends `body_size` bytes of body after it."""
    packed = _encoder.encode(head)
    return PREFIX.pack(LAYOUT_VERSION, kind, 0, len(packed), body_size) + packed
