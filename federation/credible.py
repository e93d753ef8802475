"""What a peer may say of nodes, holdings and registers: types were checked when its message was decoded, here is
whether the values can be meant. Pure. A peer that has the mesh key may still be broken, or hostile: what is not
credible is passed over, and nothing that a peer says raises."""

import re

from appliance.core.errors import BadInputError
from appliance.core.names import parse_name
from appliance.core.versions import parse_version
from federation.hybrid_clock import MAX_COUNTER, MAX_MS
from federation.identity import KEY_BYTES, node_id_of
from federation.messages import Fetch, Have, Hello, Introduction, MeshReply, Program, Record, Register

MAX_ADDRESSES = 16
MAX_TAGS = 64
MAX_VALUE_CHARS = 64 * 1024
MAX_KEY_CHARS = 128
MAX_BITMAP_BYTES = 16 * 1024  # as many pieces as a list has room for
MAX_REASON_CHARS = 1024
MAX_PATH_CHARS = 4096
MAX_PROGRAM_BYTES = 2**30
MAX_STATEMENT_BYTES = 4096
SIGNATURE_BYTES = 64  # of Ed25519

_NODE_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_INTEGER = 2**53


def credible_introduction(introduction: Introduction) -> bool:
    """Whether the credential is valid is not asked here: whoever opens the link does."""
    return (
        len(introduction.public_key) == KEY_BYTES
        and introduction.node_id == node_id_of(introduction.public_key)
        and len(introduction.name) <= 253
        and len(introduction.key_id) <= 64
        and len(introduction.credential) <= 64
        and 0 < len(introduction.addresses) <= MAX_ADDRESSES
        and all(0 < len(address) <= 64 for address in introduction.addresses)
        and 0 < introduction.mesh_port < 65536
        and 0 <= introduction.bulk_port < 65536
    )


def credible_hello(hello: Hello) -> bool:
    ports = (hello.http, hello.grpc, hello.zmq)
    return (
        credible_introduction(hello.introduction)
        and 0 < hello.incarnation < _MAX_INTEGER
        and len(hello.release) <= 64
        and all(0 <= port < 65536 for port in ports)
        and len(hello.tags) <= MAX_TAGS
        and all(len(tag) <= MAX_KEY_CHARS for tag in hello.tags)
        and len(hello.tls_fingerprint) <= 256
        and 0 <= hello.unix_s < _MAX_INTEGER  # false for NaN
        and (hello.program is None or _credible_program(hello.program))
        and len(hello.engine_kind) <= MAX_KEY_CHARS
    )


def _credible_program(program: Program) -> bool:
    """Who signed it, and whether it is newer than what runs here, whoever wants it asks."""
    return (
        _DIGEST.fullmatch(program.digest) is not None
        and 0 < program.size_bytes <= MAX_PROGRAM_BYTES
        and 0 < len(program.statement) <= MAX_STATEMENT_BYTES
        and len(program.signature) == SIGNATURE_BYTES
    )


def credible_record(record: Record) -> bool:
    return (
        _is_name(record.name)
        and _is_version(record.version)
        and _DIGEST.fullmatch(record.digest) is not None
        and 0 < record.ordinal < 2**31
        and 0 <= record.size_bytes < _MAX_INTEGER
        and 0 <= record.created_s < _MAX_INTEGER  # false for NaN
        and len(record.batch_reason) <= 4096
        and len(record.source) <= 64
    )


def credible_register(register: Register) -> bool:
    """Kinds that this release does not know are kept and handed on: a later one may."""
    stamp = register.stamp
    return (
        0 <= stamp.ms <= MAX_MS
        and 0 <= stamp.counter <= MAX_COUNTER
        and _NODE_ID.fullmatch(stamp.node_id) is not None
        and 0 < len(register.kind) <= 32
        and len(register.key) <= MAX_KEY_CHARS
        and len(register.name) <= 2 * MAX_KEY_CHARS + 1
        and len(register.value) <= MAX_VALUE_CHARS
        and (
            register.kind not in ("alias", "removed", "scale", "traffic", "copies", "earlier")
            or _is_name(register.name)
        )
    )


def credible_figures(reply: MeshReply) -> bool:
    """What an answer tells of its run and its times. Its tensors are looked at by whoever cuts them."""
    counts = (reply.decode_ns, reply.wait_ns, reply.run_ns, reply.encode_ns, reply.executions, reply.batch_rows)
    seconds = (reply.queue_s, reply.load_s, reply.total_s)
    return all(0 <= count < _MAX_INTEGER for count in counts) and all(0 <= s < _MAX_INTEGER for s in seconds)


def credible_have(have: Have) -> bool:
    return (
        _DIGEST.fullmatch(have.digest) is not None
        and len(have.list_digest) in (0, 32)
        and len(have.pieces) <= MAX_BITMAP_BYTES
        and 0 <= have.done_bytes < _MAX_INTEGER
        and 0 <= have.bytes_per_s < _MAX_INTEGER  # false for NaN
        and len(have.refused) <= MAX_REASON_CHARS
    )


def credible_fetch(fetch: Fetch) -> bool:
    return _DIGEST.fullmatch(fetch.digest) is not None and len(fetch.file) <= MAX_PATH_CHARS


def _is_name(text: str) -> bool:
    try:
        return str(parse_name(text)) == text
    except BadInputError:
        return False


def _is_version(text: str) -> bool:
    try:
        return str(parse_version(text)) == text
    except BadInputError:
        return False
