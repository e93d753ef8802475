"""Who vouches for a one file: a statement of its version and digest, signed with Ed25519, between its stub and payload.

    stub ‖ statement (JSON) ‖ signature (64 bytes) ‖ SEAL ‖ payload ‖ TRAILER

The digest is of all but the statement, the signature and the seal. A file without them runs as well; it is only never
an update. Runs in the command line, and in the build that signs. Knows of the one file only its form (build/stub.h).
"""

import hashlib
import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.core.errors import RefusedError

TRAILER = struct.Struct("<8sQQ32s")  # magic, the payload's bytes, its bytes unpacked, its digest
SEAL = struct.Struct("<8sI")  # magic, the statement's bytes
MAGIC, SEAL_MAGIC = b"INGLE-1\n", b"INGLE-S\n"
MAX_STATEMENT_BYTES = 4096
_SIGNATURE_BYTES = 64
# Before what is signed, so that a signature of ours is good for nothing else.
_CONTEXT = b"ingle release 1\n"
_PIECE_BYTES = 2**20


class Statement(msgspec.Struct, frozen=True):
    """What is said of a one file. `built_s` is the time of the commit it was built of, in Unix seconds; `runtime` is
    `cpu` or `gpu`."""

    version: str
    built_s: int
    sha256: str
    runtime: str = ""


class Signed(NamedTuple):
    """A statement as it lies in a file, with its signature; neither was looked at."""

    statement: bytes
    signature: bytes


class _Parts(NamedTuple):
    """Where the seal begins and the payload does, in bytes from the file's start; the same where there is no seal."""

    seal_at: int
    payload_at: int
    statement: bytes
    signature: bytes


def verified(path: Path, public_key: str) -> Statement:
    """What the owner of this key (32 bytes in hexadecimal) said of the file, which is true of it. Raises RefusedError,
    and OSError where it cannot be read."""
    with path.open("rb") as file:
        parts = _parts(file, path)
        if not parts.statement:
            raise RefusedError(f"{path} is not signed: an update must be signed by whoever makes this program")
        try:
            statement = read_signed(parts.statement, parts.signature, public_key)
        except RefusedError as error:
            raise RefusedError(f"{path} {error.sentence}") from None
        if _digest(file, parts) != statement.sha256:
            raise RefusedError(f"{path} is damaged or was changed: its SHA-256 is not the signed one; copy it again")
    return statement


def find_signed(path: Path) -> Signed | None:
    """What the file says of itself; None where it is not signed. Reads a few bytes, and believes nothing. Raises
    RefusedError where it is no one file, OSError where it cannot be read."""
    with path.open("rb") as file:
        parts = _parts(file, path)
    return Signed(parts.statement, parts.signature) if parts.statement else None


def read_signed(statement: bytes, signature: bytes, public_key: str) -> Statement:
    """What the owner of this key said; whether it is true of any file is not asked. Raises RefusedError with a
    sentence that lacks its subject."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, _CONTEXT + statement)
        return msgspec.json.decode(statement, type=Statement)
    except InvalidSignature:
        raise RefusedError(
            f"is signed with another key than this program's, whose public half is {public_key[:16]}..."
        ) from None
    except msgspec.MsgspecError as error:
        raise RefusedError(f"is signed, and what was signed cannot be read: {error}") from None


def sign(path: Path, key: Ed25519PrivateKey, version: str, built_s: int, runtime: str = "") -> None:
    """Puts a signed statement into the file, in the place of one that is there. Raises RefusedError where it is no
    one file."""
    with path.open("rb") as file:
        parts = _parts(file, path)
        statement = msgspec.json.encode(Statement(version, built_s, _digest(file, parts), runtime))
        signature = key.sign(_CONTEXT + statement)
        signed = path.with_name(f".{path.name}.signed")
        with signed.open("wb") as out:
            file.seek(0)
            out.write(file.read(parts.seal_at))
            out.write(statement + signature + SEAL.pack(SEAL_MAGIC, len(statement)))
            file.seek(parts.payload_at)
            while piece := file.read(_PIECE_BYTES):
                out.write(piece)
    signed.chmod(path.stat().st_mode & 0o777)
    signed.rename(path)


def _parts(file: BinaryIO, path: Path) -> _Parts:
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - TRAILER.size))
    end = file.read(TRAILER.size)
    magic, payload_bytes, _, _ = TRAILER.unpack(end) if len(end) == TRAILER.size else (b"", 0, 0, b"")
    payload_at = length - TRAILER.size - payload_bytes
    if magic != MAGIC or payload_at < 0:
        raise RefusedError(f"{path} is no Ingle, or was cut short: expected the one file that 'make binary' makes")
    file.seek(max(0, payload_at - SEAL.size))
    seal = file.read(min(payload_at, SEAL.size))
    magic, statement_bytes = SEAL.unpack(seal) if len(seal) == SEAL.size else (b"", 0)
    seal_at = payload_at - SEAL.size - _SIGNATURE_BYTES - statement_bytes
    if magic != SEAL_MAGIC or statement_bytes > MAX_STATEMENT_BYTES or seal_at < 0:
        return _Parts(payload_at, payload_at, b"", b"")
    file.seek(seal_at)
    return _Parts(seal_at, payload_at, file.read(statement_bytes), file.read(_SIGNATURE_BYTES))


def _digest(file: BinaryIO, parts: _Parts) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while (left := parts.seal_at - file.tell()) > 0:
        digest.update(file.read(min(left, _PIECE_BYTES)))
    file.seek(parts.payload_at)
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
