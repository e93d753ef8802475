"""What nodes of one mesh say to each other, in the frames of core/frames.py. Pure; any process.

A ZeroMQ message is one frame: its first part is the prefix and the head, each further part one buffer of the body.
Heads are msgpack arrays: fields are only ever added at the end, a reader passes over those that it does not know and
gives those that it misses their defaults. A message of a kind that is unknown is passed over. So two versions of Ingle
that are PROTOCOL-compatible live in one mesh.

Times on the wire are durations in seconds or Unix times; a monotonic clock's reading never leaves its node.
"""

from enum import IntEnum

import msgspec

from appliance.core.frames import OutputWish, TensorHead
from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature

PROTOCOL = 1


class MeshKind(IntEnum):
    """Kinds of the mesh's frames; workers' are below 16, clients' below 32, fronts' above 100."""

    HELLO = 40
    STATE = 41
    STATE_ASKED = 42
    PROBE = 43
    PROBED = 44
    INVOKE = 45
    REPLY = 46
    FAULT = 47
    CANCEL = 48
    DRAIN = 49
    CATALOGUE = 50
    CATALOGUE_ASKED = 51
    RECORDS = 52
    REGISTERS = 53
    KEYS = 54
    ORDER = 55
    ORDERED = 56
    FETCH = 57
    CHUNK = 58
    NO_CHUNK = 59
    HAVE = 60
    PACK = 61
    TICKET = 62
    STREAMED = 63


# Who is there.


class Introduction(msgspec.Struct, array_like=True, frozen=True):
    """How a node is reached and known: what mDNS tells of it, what peers tell of peers, what is remembered.

    `public_key` is CURVE's, 32 bytes; `node_id` its digest; `credential` the HMAC that proves the mesh key `key_id`.
    `addresses` are IP addresses without ports.
    """

    node_id: str
    name: str
    public_key: bytes
    key_id: str
    credential: bytes
    addresses: list[str]
    mesh_port: int
    bulk_port: int


class Program(msgspec.Struct, array_like=True, frozen=True):
    """The signed one file that a node runs from, which peers may fetch: an artifact of that file alone. `statement` and
    `signature` are what its maker said of it, as they lie in the file."""

    digest: str
    size_bytes: int
    statement: bytes
    signature: bytes


class Hello(msgspec.Struct, array_like=True):
    """The first message on a link, each way, and again when something in it changes. `incarnation` grows with each
    start of the node. `http`, `grpc`, `zmq` are ports, 0 for a front that is off. `peers`: some of those whom the
    sender has links with. `unix_s`: the sender's clock when it sent this; 0 where it does not tell. `program`: what
    it runs from; None where that is no signed one file. `packs`: it reads PACK. `engine_kind`: one word for all that
    TensorRT's engines depend on there but the model; empty where it neither gives nor takes any.
    """

    protocol: int
    release: str
    introduction: Introduction
    incarnation: int
    http: int = 0
    grpc: int = 0
    zmq: int = 0
    tags: list[str] = []
    tls_fingerprint: str = ""
    peers: list[Introduction] = []
    draining: bool = False
    unix_s: float = 0.0
    program: Program | None = None
    packs: bool = False
    engine_kind: str = ""


class Pack(msgspec.Struct, array_like=True):
    """Several messages of a link in one, in their order: the body is their frames, one after another. Sent only to who
    `packs`, after HELLO; holds neither another PACK nor a message of more than one part, and at most 256 messages of
    31 KiB together."""


class Ticket(msgspec.Struct, array_like=True, frozen=True):
    """Whoever hears this on its link may open one stream of this purpose (federation/streams.py) at the sender's bulk
    port. `ticket_id` names it there, `secret` gives the stream's keys (federation/sealing.py). `has_aes`: the sender's
    processor does AES by itself. Where there is no stream, what is about calls is said on the link."""

    ticket_id: bytes
    secret: bytes
    purpose: int
    has_aes: bool = False


class Streamed(msgspec.Struct, array_like=True, frozen=True):
    """What the sender says about calls after this, it says on the stream that the ticket opened: that is to be heard
    after all that was said before."""

    ticket_id: bytes


# How each fares: every node is the authority on itself.


class Load(msgspec.Struct, array_like=True, frozen=True):
    """How busy a node is. `backlog_s`: seconds of work that wait or run, summed over its models, by core.
    `power_w` and `temperature_c` are -1 where the box does not tell."""

    backlog_s: float = 0.0
    in_flight: int = 0
    memory_free_bytes: int = 0  # of the budget for workers
    device_free_bytes: int = -1  # of the GPU's memory
    cpu_share: float = 0.0  # of all cores, lately
    power_w: float = -1.0
    temperature_c: float = -1.0


class Engines(msgspec.Struct, array_like=True, frozen=True):
    """What TensorRT has built for one version on the sender's GPU, which peers with its `engine_kind` may fetch: an
    artifact of these files."""

    digest: str
    size_bytes: int


class ModelState(msgspec.Struct, array_like=True, frozen=True):
    """One version on one node. `replicas`: loaded workers (0: cold there). `backlog_s`: how long a call that came now
    would wait for its run. `run_s`: seconds of one run by rows, rounded up to a power of two. `cold_start_s`: what a
    first call would wait more; 0 where it was never measured. `refused`: why it cannot be called there now. `engines`:
    None where there are none to be had."""

    replicas: int = 0
    backlog_s: float = 0.0
    run_s: dict[int, float] = {}
    cold_start_s: float = 0.0
    p95_s: float = 0.0  # of its calls lately, from arrival to answer on that node
    refused: str = ""
    engines: Engines | None = None


class State(msgspec.Struct, array_like=True):
    """What changed since the sender's number `base`; with `base` 0 all of it. `epoch` is the sender's incarnation,
    `number` counts from 1. Whoever has not `base` of that epoch asks for all with STATE_ASKED.

    `models` by `model_key()`; `gone` are keys that are no longer told."""

    epoch: int
    number: int
    base: int
    load: Load
    models: dict[str, ModelState] = {}
    gone: list[str] = []


class StateAsked(msgspec.Struct, array_like=True):
    """Send all of your state."""


class Probe(msgspec.Struct, array_like=True):
    """Are you, not only your ZeroMQ thread, alive? Answered with PROBED from the event loop. `pad` is ignored: a probe
    with a large body measures bandwidth."""

    number: int


class Probed(msgspec.Struct, array_like=True):
    """`received_bytes`: the whole probe's; `load` is piggybacked where it is not what the last STATE told."""

    number: int
    received_bytes: int = 0
    load: Load | None = None


class Drain(msgspec.Struct, array_like=True):
    """The sender takes no new calls, and says so before it ends. `leaving`: it goes for good (it left the mesh)."""

    leaving: bool = False


def model_key(name: str, version: str, digest: str) -> str:
    """How one version is called between nodes: `owner/name:version@` and the first 16 digits of its digest."""
    return f"{name}:{version}@{digest[:16]}"


# Calls.


class MeshInvoke(msgspec.Struct, array_like=True):
    """Run this version once on the tensors in the body; never hand it on. `call` is the sender's number for it.

    `call_id` is the id under which the caller knows it. `deadline_s` counts from the arrival. `sequence`: the caller's
    own word for the sequence, made unique by the sender; empty for none."""

    call: int
    model: str  # owner/name
    version: str  # a whole one
    digest: str
    form: int
    tensors: list[TensorHead]
    outputs: list[OutputWish] | None = None
    binary: bool = False
    content_type: str = ""
    deadline_s: float = 0.0
    priority: int = 0
    call_id: str = ""
    sequence: str = ""
    sequence_start: bool = False
    sequence_end: bool = False


class MeshReply(msgspec.Struct, array_like=True):
    """The answer to an INVOKE: a worker's Answer but for its number, and how the sender now fares with that model.
    `total_s`: from the INVOKE's arrival to this answer. Of several answers in one PACK the first tells how it fares."""

    call: int
    tensors: list[TensorHead]
    text_size: int
    decode_ns: int
    wait_ns: int
    run_ns: int
    encode_ns: int
    executions: int
    batch_rows: int
    queue_s: float = 0.0
    load_s: float = 0.0
    total_s: float = 0.0
    model_state: ModelState | None = None
    load: Load | None = None


class MeshFault(msgspec.Struct, array_like=True):
    """Why an INVOKE was not answered: a code of core.errors and a sentence. `elsewhere`: nothing was run and the fault
    is this node's (it drains, has no such version, no room): another may answer."""

    call: int
    code: str
    sentence: str
    elsewhere: bool = False
    retry_after_s: float = 0.0
    model_state: ModelState | None = None


class Cancel(msgspec.Struct, array_like=True):
    """Nobody waits for this call any more."""

    call: int


# What exists. Holdings are each node's own; registers are everyone's, and the last writer's value stands.


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One version that the sender has on its disk; ModelVersion without what is only that node's."""

    name: str  # owner/name
    version: str
    ordinal: int
    digest: str
    size_bytes: int
    signature: Signature
    manifest: Manifest
    batchable: bool
    batch_reason: str
    created_s: float
    source: str = "deploy"


class Stamp(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A hybrid logical clock's reading: milliseconds since 1970, a counter within, and who wrote. Ordered."""

    ms: int
    counter: int
    node_id: str


class Register(msgspec.Struct, array_like=True, frozen=True):
    """One wish about the mesh's models. `kind` is one of `alias` (key: its name; value: a version, or empty for none),
    `removed` (key: removal_key(); value: the digest that was removed, or empty where it was deployed anew), `scale`,
    `traffic`, `copies`, `earlier` (key empty; value JSON, empty: withdrawn; `earlier` lists the defaults before, the
    latest last, for rollback), `node` (name: a public key in hex; key `revoked`;
    value: why), `triton` (name: HOST:PORT of a server that is no node; key: the id of the only node that is to call it,
    or empty; value JSON, empty: withdrawn). `name`: owner/name."""

    kind: str
    name: str
    key: str
    stamp: Stamp
    value: str


def removal_key(version: str, digest: str) -> str:
    """The key of a removal's register: each digest that a version ever had can be removed."""
    return f"{version}@{digest[:16]}"


class Catalogue(msgspec.Struct, array_like=True):
    """How the sender's holdings and its registers hash, for comparison: the sum of all items' hashes, and, where
    `holdings_buckets` or `register_buckets` is not empty, those of 256 buckets. federation/catalogue_hash.py says how
    an item hashes and which bucket is its."""

    holdings_hash: bytes
    register_hash: bytes
    holdings_buckets: list[bytes] = []
    register_buckets: list[bytes] = []


class CatalogueAsked(msgspec.Struct, array_like=True):
    """Send `buckets` (Catalogue with its buckets), or the items of these buckets."""

    with_buckets: bool = False
    holdings: list[int] = []
    registers: list[int] = []


class Records(msgspec.Struct, array_like=True):
    """The sender's holdings in these buckets: the whole of each; what was known of them and is not here is gone.
    A bucket may be cut over several messages: `more` says that its rest follows."""

    buckets: list[int]
    records: list[Record]
    more: bool = False


class Registers(msgspec.Struct, array_like=True):
    """Registers to be merged, be they asked for or just written."""

    registers: list[Register]


class Keys(msgspec.Struct, array_like=True):
    """The mesh keys that the sender holds, newest first (hex), on a link that is trusted already; and the public keys
    (hex) of nodes that were revoked. `current`: the id of the key whose credentials are to be shown. `stamp_ms`: when
    the keys were last changed; the later ring stands. `retired`: keys that let in only who was a member, each until a
    Unix time. `asks`: the sender has not heard the like from the receiver, who is to say what it holds."""

    keys: list[str]
    current: str
    revoked: list[str] = []
    stamp_ms: int = 0
    retired: list[tuple[str, float]] = []
    asks: bool = False


class Order(msgspec.Struct, array_like=True):
    """Do something with a version: `fetch` a copy of it, `warm` it, `remove` it; or `keep` it, since the sender means
    to drop its own. Answered with ORDERED."""

    number: int
    act: str
    model: str
    version: str = ""
    digest: str = ""
    why: str = ""


class Ordered(msgspec.Struct, array_like=True):
    """What became of an ORDER: a code of core.errors, or an empty one where it was done or begun."""

    number: int
    code: str = ""
    sentence: str = ""


# Artifacts, on the stream for copies.


class Fetch(msgspec.Struct, array_like=True):
    """Send a part of a file of an artifact. `file` empty: the list of its files (federation/artifact_list.py), all of
    it. `number` is the asker's."""

    number: int
    digest: str
    file: str = ""
    offset: int = 0
    size_bytes: int = 0


class Chunk(msgspec.Struct, array_like=True):
    """The part that was asked for; its bytes are the body."""

    number: int
    size_bytes: int


class NoChunk(msgspec.Struct, array_like=True):
    """Why a part cannot be had here."""

    number: int
    code: str
    sentence: str


class Have(msgspec.Struct, array_like=True):
    """The sender fetches this artifact, and can give these pieces of it already: bit N of `pieces` (its byte N/8, from
    the lowest) is piece N of the list whose digest is `list_digest`; both empty while it has no list. Sent to all peers
    at the begin, then to whoever fetches or holds it. `ended`: it is complete, or the sender has given up. `refused`:
    why the sender cannot have it; told to all now and then, so that another takes its place."""

    digest: str
    list_digest: bytes = b""
    pieces: bytes = b""
    done_bytes: int = 0
    bytes_per_s: float = 0.0
    ended: bool = False
    refused: str = ""


Head = (
    Hello
    | State
    | StateAsked
    | Probe
    | Probed
    | MeshInvoke
    | MeshReply
    | MeshFault
    | Cancel
    | Drain
    | Catalogue
    | CatalogueAsked
    | Records
    | Registers
    | Keys
    | Order
    | Ordered
    | Fetch
    | Chunk
    | NoChunk
    | Have
    | Ticket
    | Streamed
)

KIND_OF: dict[type[msgspec.Struct], MeshKind] = {
    Hello: MeshKind.HELLO,
    State: MeshKind.STATE,
    StateAsked: MeshKind.STATE_ASKED,
    Probe: MeshKind.PROBE,
    Probed: MeshKind.PROBED,
    MeshInvoke: MeshKind.INVOKE,
    MeshReply: MeshKind.REPLY,
    MeshFault: MeshKind.FAULT,
    Cancel: MeshKind.CANCEL,
    Drain: MeshKind.DRAIN,
    Catalogue: MeshKind.CATALOGUE,
    CatalogueAsked: MeshKind.CATALOGUE_ASKED,
    Records: MeshKind.RECORDS,
    Registers: MeshKind.REGISTERS,
    Keys: MeshKind.KEYS,
    Order: MeshKind.ORDER,
    Ordered: MeshKind.ORDERED,
    Fetch: MeshKind.FETCH,
    Chunk: MeshKind.CHUNK,
    NoChunk: MeshKind.NO_CHUNK,
    Have: MeshKind.HAVE,
    Pack: MeshKind.PACK,
    Ticket: MeshKind.TICKET,
    Streamed: MeshKind.STREAMED,
}
