"""How what runs on a stream between two nodes is sealed: keys from a ticket, and one record after another. Pure.

A ticket (messages.Ticket) was said on the link of the two, which CURVE keeps secret and whose ends it proves; so who
knows its secret is the node that it was said to. Each attempt to use it has a salt of its own, hence keys of its own
(HKDF, RFC 5869), one for each direction, and a record's nonce is its number. So no key sees a nonce twice, and a record
that is left out, repeated, changed, or comes from the other direction is not opened.

AES-256-GCM where both boxes' processors do AES by themselves, else ChaCha20-Poly1305: ZeroMQ's CURVE takes several
times as long as either (decision 29).
"""

import platform
import secrets
import struct
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.core.errors import BadInputError
from appliance.core.requests import Buffer

TICKET_ID_BYTES, SECRET_BYTES, TAG_BYTES = 16, 32, 16
# What the listening end says first: people's tools know by it what answers there.
BANNER = b"INGLE\x00\x00\x01"
_SALT_BYTES = 32
_OPENING = struct.Struct(f"={TICKET_ID_BYTES}s{_SALT_BYTES}sB")
OPENING_BYTES = _OPENING.size
_NONCE = struct.Struct(">IQ")


class BrokenStreamError(BadInputError):
    """What came on a stream is not what the other end sealed."""


class Cipher(IntEnum):
    """As it stands in an opening."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


_AEAD: dict[Cipher, type[AESGCM] | type[ChaCha20Poly1305]] = {
    Cipher.AES_256_GCM: AESGCM,
    Cipher.CHACHA20_POLY1305: ChaCha20Poly1305,
}


class Opening(NamedTuple):
    """What the dialling end says first, in the clear."""

    ticket_id: bytes
    salt: bytes
    cipher: Cipher

    def encoded(self) -> bytes:
        return _OPENING.pack(*self)


def new_opening(ticket_id: bytes, *, both_have_aes: bool) -> Opening:
    """For one attempt to use a ticket."""
    cipher = Cipher.AES_256_GCM if both_have_aes else Cipher.CHACHA20_POLY1305
    return Opening(ticket_id, secrets.token_bytes(_SALT_BYTES), cipher)


def read_opening(data: Buffer) -> Opening:
    """Of OPENING_BYTES. Raises BrokenStreamError for a cipher that is not known."""
    ticket_id, salt, cipher = _OPENING.unpack(data)
    if cipher not in set(Cipher):
        raise BrokenStreamError(f"cipher {cipher} is not known here")
    return Opening(ticket_id, salt, Cipher(cipher))


class Sealed:
    """One direction of one stream: seal() at its one end, open() and open_into() at the other, in the same order."""

    __slots__ = ("_aead", "_count")

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        self._aead = _AEAD[cipher](key)
        self._count = 0

    def _nonce(self) -> bytes:
        self._count = count = self._count + 1
        return _NONCE.pack(0, count)

    def seal(self, plain: Buffer) -> bytes:
        """The next record: TAG_BYTES longer."""
        return self._aead.encrypt(self._nonce(), plain, None)

    def seal_into(self, plain: Buffer, place: Buffer) -> None:
        """The same into a place of just its size."""
        self._aead.encrypt_into(self._nonce(), plain, None, place)

    def open(self, record: Buffer) -> bytes:
        """What the next record holds. Raises BrokenStreamError, after which nothing more can be opened."""
        try:
            return self._aead.decrypt(self._nonce(), record, None)
        except InvalidTag:
            raise BrokenStreamError("a record is not as it was sealed") from None

    def open_into(self, record: Buffer, place: Buffer) -> None:
        """The same into a place of just its size."""
        try:
            self._aead.decrypt_into(self._nonce(), record, None, place)
        except InvalidTag:
            raise BrokenStreamError("a record is not as it was sealed") from None


class Keys(NamedTuple):
    """`dialled`: for what the dialling end says; `accepted`: for what the other says."""

    dialled: Sealed
    accepted: Sealed


def keys_of(secret: bytes, opening: Opening, *, dialling_id: str, accepting_id: str) -> Keys:
    """The same at both ends of one stream, and of no other."""
    info = b"ingle stream 1\0" + f"{dialling_id}\0{accepting_id}\0{opening.cipher}".encode()
    both = HKDF(SHA256(), 2 * SECRET_BYTES, opening.salt, info).derive(secret)
    return Keys(Sealed(opening.cipher, both[:SECRET_BYTES]), Sealed(opening.cipher, both[SECRET_BYTES:]))


@cache
def has_aes() -> bool:
    """Whether this box's processor does AES by itself; where nothing tells, whether such processors usually do."""
    try:
        words = Path("/proc/cpuinfo").read_text(errors="replace").split()
    except OSError:
        return platform.machine().lower() in ("x86_64", "amd64", "arm64")
    return "aes" in words
