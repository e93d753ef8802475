"""A backup as one file: a tar that any tool lists, with digests of all that is in it, written and read as a stream.

    ingle-backup.json      what follows, each file with its size and sha256
    catalogue.sqlite ...   copies of databases
    artifacts/DIGEST/...   the files of each artifact
    ingle-backup.sha256    the sha256 of ingle-backup.json: it comes last, so that what was cut short has none

Pure but for the files it reads; runs in a thread of the gateway. Reading keeps a bounded amount in memory and believes
nothing: a stream that is not, to the byte, what its own list says is refused.
Source of the form: POSIX.1-1988 ustar with GNU's long names and sizes.
"""

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

import msgspec

from appliance.core.errors import IngleError, RefusedError

FORM = 1
CHUNK_BYTES = 1024 * 1024
CONTENTS, SEAL = "ingle-backup.json", "ingle-backup.sha256"
_MAX_CONTENTS_BYTES = 256 * 1024 * 1024
_MAX_NAME_BYTES = 8192
_BLOCK = 512
_ARTIFACT_FILE = re.compile(r"artifacts/([0-9a-f]{64})/(.+)", re.DOTALL)


class FileMark(msgspec.Struct, frozen=True):
    """What a file must be."""

    size_bytes: int
    sha256: str


class Contents(msgspec.Struct, frozen=True):
    """What a backup says of itself. `files`: path within it to mark, in the order in which they come."""

    form: int
    release: str
    node: str  # the name of the node that made it
    created_s: float  # Unix time
    files: dict[str, FileMark]

    def artifacts(self) -> dict[str, dict[str, FileMark]]:
        """The artifacts' files: digest to relative path to mark."""
        found: dict[str, dict[str, FileMark]] = {}
        for path, mark in self.files.items():
            if match := _ARTIFACT_FILE.fullmatch(path):
                found.setdefault(match[1], {})[match[2]] = mark
        return found


class Source(Protocol):
    """A stream of bytes; read() gives at least one byte, and none at its end."""

    def read(self, size: int, /) -> bytes: ...


def artifact_file(digest: str, path: str) -> str:
    """An artifact's file's path within a backup."""
    return f"artifacts/{digest}/{path}"


def backup_size_bytes(contents: Contents) -> int:
    """How long write_backup() will be."""
    sizes = [(CONTENTS, len(_encoded(contents))), (SEAL, 64)]
    sizes += [(path, mark.size_bytes) for path, mark in contents.files.items()]
    return sum(len(_header(name, size)) + size + _padding(size) for name, size in sizes) + 2 * _BLOCK


def write_backup(contents: Contents, sources: Mapping[str, Path]) -> Iterator[bytes]:
    """The backup, piece by piece; `sources` says where each path of `contents` lies.

    Raises IngleError where a file is no longer what its mark says: the backup is void then.
    """
    head = _encoded(contents)
    yield _header(CONTENTS, len(head)) + head + bytes(_padding(len(head)))
    for path, mark in contents.files.items():
        yield _header(path, mark.size_bytes)
        digest = hashlib.sha256()
        left = mark.size_bytes
        with sources[path].open("rb") as file:
            while left and (piece := file.read(min(CHUNK_BYTES, left))):
                digest.update(piece)
                left -= len(piece)
                yield piece
        if left or digest.hexdigest() != mark.sha256:
            raise IngleError(
                f"{sources[path]} is damaged, so the backup is void: deploy the model again or delete it; "
                "`ingle doctor --verify` says which it is"
            )
        yield bytes(_padding(mark.size_bytes))
    yield _header(SEAL, 64) + hashlib.sha256(head).hexdigest().encode() + bytes(_padding(64) + 2 * _BLOCK)


def read_backup(
    source: Source, accept: Callable[[Contents], None], place: Callable[[str], BinaryIO | None]
) -> Contents:
    """Takes a backup apart. `accept` hears what will come and may raise; `place` opens where a path's bytes shall go,
    None for nowhere: they are checked all the same.

    Raises RefusedError, with what is wrong, where it is no backup, cut short, or not what its list says.
    """
    try:
        name, size = _next_header(source)
    except RefusedError:
        name, size = "", 0
    if name != CONTENTS or size > _MAX_CONTENTS_BYTES:
        raise RefusedError("the file is no backup of a node: expected what `ingle backup` made")
    head = b"".join(_pieces(source, size))
    contents = _decoded(head)
    accept(contents)
    for path, mark in contents.files.items():
        if _next_header(source) != (path, mark.size_bytes):
            raise RefusedError(f"the backup has another file where {path} should be: it was changed")
        digest = hashlib.sha256()
        target = place(path)
        try:
            for piece in _pieces(source, mark.size_bytes):
                digest.update(piece)
                if target is not None:
                    target.write(piece)
        finally:
            if target is not None:
                target.close()
        if digest.hexdigest() != mark.sha256:
            raise RefusedError(f"{path} in the backup is not what it was when the backup was made: use another copy")
    if _next_header(source) != (SEAL, 64) or b"".join(_pieces(source, 64)).decode("ascii", "replace") != (
        hashlib.sha256(head).hexdigest()
    ):
        raise RefusedError("the backup's list of files is not what it was when it was made: use another copy")
    return contents


def _decoded(head: bytes) -> Contents:
    try:
        contents = msgspec.json.decode(head, type=Contents)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RefusedError(f"the backup's list of files cannot be read: {error}") from None
    if contents.form != FORM:
        raise RefusedError(
            f"the backup was made by Ingle {contents.release[:40]}, whose form {contents.form} is not known here: "
            "restore it with that version"
        )
    for path, mark in contents.files.items():
        match = _ARTIFACT_FILE.fullmatch(path)
        inner = PurePosixPath(match[2]) if match else PurePosixPath(path)
        plain = not inner.is_absolute() and str(inner) == (match[2] if match else path) and "\0" not in path
        if not plain or ".." in inner.parts or (match is None and len(inner.parts) != 1) or mark.size_bytes < 0:
            raise RefusedError(f"the backup names a file '{path[:200]}', which no backup has")
    return contents


def _encoded(contents: Contents) -> bytes:
    return msgspec.json.encode(contents)


def _padding(size: int) -> int:
    return -size % _BLOCK


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o600
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _next_header(source: Source) -> tuple[str, int]:
    """The next entry's name and size. Where tarfile would read whatever an entry says it has, this reads a name."""
    long_name = ""
    while True:
        block = _exactly(source, _BLOCK)
        if not any(block):
            raise RefusedError("the backup ends before its end: it was cut short")
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise RefusedError(f"the file is no backup of a node, or is damaged ({error})") from None
        if entry.type == tarfile.REGTYPE:
            return long_name or entry.name, entry.size
        if entry.type != tarfile.GNUTYPE_LONGNAME or long_name or entry.size > _MAX_NAME_BYTES:
            raise RefusedError(f"the backup holds an entry '{entry.name[:100]}' that no backup has")
        text = b"".join(_pieces(source, entry.size)).rstrip(b"\0")
        long_name = text.decode("utf-8", "surrogateescape")


def _pieces(source: Source, size: int) -> Iterator[bytes]:
    """So many bytes, and then the padding."""
    left = size
    while left:
        piece = _some(source, min(CHUNK_BYTES, left))
        left -= len(piece)
        yield piece
    _exactly(source, _padding(size))


def _exactly(source: Source, size: int) -> bytes:
    pieces = []
    while size:
        pieces.append(_some(source, size))
        size -= len(pieces[-1])
    return b"".join(pieces)


def _some(source: Source, size: int) -> bytes:
    piece = source.read(size)
    if not piece:
        raise RefusedError("the backup ends before its end: it was cut short")
    return piece
