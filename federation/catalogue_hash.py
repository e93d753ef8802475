"""How holdings and registers are hashed for comparison between nodes. Pure.

An item's hash is the first 8 bytes of BLAKE2b over the msgpack array of its fields that are listed here: a fixed list,
so that a node that knows more fields of a Record still hashes alike. The hash of a set is the sum of its items' hashes
modulo 2**64, big-endian: items come and go at the cost of one addition. An item's bucket is the first byte of BLAKE2b
over its key, so it stays there when its content changes. A sum of 0 is written as no bytes.
"""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from federation.messages import Record, Register, model_key

BUCKETS = 256
HASH_BYTES = 8
_MODULUS = 1 << (8 * HASH_BYTES)

_encode = msgspec.msgpack.Encoder().encode


def record_hash(record: Record) -> int:
    """All else of a record follows from its digest and its manifest, and a version's manifest never changes."""
    return _hash(
        record.name,
        record.version,
        record.ordinal,
        record.digest,
        record.size_bytes,
        float(record.created_s),
        record.source,
    )


def register_hash(register: Register) -> int:
    stamp = register.stamp
    return _hash(register.kind, register.name, register.key, stamp.ms, stamp.counter, stamp.node_id, register.value)


def record_bucket(record: Record) -> int:
    return _bucket(model_key(record.name, record.version, record.digest))


def register_bucket(register: Register) -> int:
    return _bucket(f"{register.kind}\n{register.name}\n{register.key}")


def _hash(*fields: object) -> int:
    return int.from_bytes(blake2b(_encode(fields), digest_size=HASH_BYTES).digest(), "big")


def _bucket(key: str) -> int:
    return blake2b(key.encode(), digest_size=1).digest()[0]


class SumHash:
    """The hash of a set whose items come and go, in all and by bucket."""

    def __init__(self) -> None:
        self._total = 0
        self._sums = [0] * BUCKETS
        self._written = [b""] * BUCKETS

    def add(self, bucket: int, item_hash: int) -> None:
        self._total = (self._total + item_hash) % _MODULUS
        self._sums[bucket] = (self._sums[bucket] + item_hash) % _MODULUS
        self._written[bucket] = _written(self._sums[bucket])

    def take(self, bucket: int, item_hash: int) -> None:
        self.add(bucket, _MODULUS - item_hash)

    @property
    def total(self) -> bytes:
        return _written(self._total)

    @property
    def buckets(self) -> list[bytes]:
        return self._written.copy()

    def differing(self, theirs: Sequence[bytes]) -> list[int]:
        """The buckets that differ from a peer's; all of them where it told another number of buckets."""
        if len(theirs) != BUCKETS:
            return list(range(BUCKETS))
        pairs = enumerate(zip(self._written, theirs, strict=True))
        return [bucket for bucket, (mine, told) in pairs if mine != told]


def _written(value: int) -> bytes:
    return value.to_bytes(HASH_BYTES, "big") if value else b""
