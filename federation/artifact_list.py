"""What an artifact consists of, as one node tells another: its files, and the digests of the pieces they come in.

Pure but for the files it reads; runs in threads of the gateway. An artifact's digest covers its files' digests, so a
list can be checked against it; sizes and pieces are what the list's giver says, until the whole file is there.

Holders of one artifact make the same list, to the byte: its own digest tells whose numbers of pieces mean the same.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from appliance.core.digests import folder_digest
from appliance.core.errors import RefusedError

MAX_LIST_BYTES = 4 * 2**20
MAX_FILES = 4096  # as many as a bundle may have
SMALL_PIECE_BYTES = 256 * 2**10
LARGE_PIECE_BYTES = 2**20
LARGE_ARTIFACT_BYTES = 256 * 2**20
_MARK_DIGITS = 32  # of a piece's sha256: 128 bits, so that a list of 100 GB stays below MAX_LIST_BYTES


class FileMark(msgspec.Struct, array_like=True, frozen=True):
    """What a file must be. `pieces`: the first 128 bits of each piece's sha256, in hexadecimal, one after another."""

    sha256: str
    size_bytes: int
    pieces: str


class Piece(NamedTuple):
    """A part of one file that is checked by itself."""

    number: int  # counted through the files in the order of their paths
    file: str
    offset: int
    size_bytes: int
    mark: str


class ArtifactList(msgspec.Struct, frozen=True):
    """`files`: relative path to mark, sorted."""

    piece_bytes: int
    files: dict[str, FileMark]

    @property
    def size_bytes(self) -> int:
        return sum(mark.size_bytes for mark in self.files.values())

    def pieces(self) -> Iterator[Piece]:
        """All pieces by number. An empty file has none."""
        number = 0
        for path, mark in self.files.items():
            for index, offset in enumerate(range(0, mark.size_bytes, self.piece_bytes)):
                size_bytes = min(self.piece_bytes, mark.size_bytes - offset)
                yield Piece(number, path, offset, size_bytes, mark.pieces[index * _MARK_DIGITS :][:_MARK_DIGITS])
                number += 1

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)

    def digest(self) -> bytes:
        return hashlib.sha256(self.encoded()).digest()


def piece_mark(content: bytes | bytearray | memoryview) -> str:
    """What a piece with these bytes is marked with."""
    return hashlib.sha256(content).hexdigest()[:_MARK_DIGITS]


def make_list(folder: Path, files: dict[str, str]) -> ArtifactList:
    """The list of an artifact that lies complete in `folder`; `files`: relative path to sha256. Reads all of it.

    Raises OSError where a file cannot be read.
    """
    size_bytes = sum((folder / path).stat().st_size for path in files)
    piece_bytes = _piece_bytes(size_bytes)
    return ArtifactList(piece_bytes, {path: _mark(folder / path, files[path], piece_bytes) for path in sorted(files)})


def _mark(path: Path, sha256: str, piece_bytes: int) -> FileMark:
    marks = []
    size_bytes = 0
    with path.open("rb") as file:
        while piece := file.read(piece_bytes):
            size_bytes += len(piece)
            marks.append(piece_mark(piece))
    return FileMark(sha256, size_bytes, "".join(marks))


def _piece_bytes(size_bytes: int) -> int:
    return SMALL_PIECE_BYTES if size_bytes < LARGE_ARTIFACT_BYTES else LARGE_PIECE_BYTES


def read_list(text: bytes, digest: str, size_bytes: int) -> ArtifactList:
    """The list of the artifact `digest`, which has so many bytes, from what somebody sent for it.

    Raises RefusedError with what is wrong: another artifact's list, a path that leads out of a folder, other sizes.
    """
    try:
        if len(text) > MAX_LIST_BYTES:
            raise RefusedError(f"has {len(text)} bytes: at most {MAX_LIST_BYTES} are taken")
        told = msgspec.json.decode(text, type=ArtifactList)
        listed = ArtifactList(told.piece_bytes, dict(sorted(told.files.items())))
        _check(listed, digest, size_bytes)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RefusedError(f"the list of files of {digest[:12]} cannot be read: {error}") from None
    except RefusedError as error:
        raise RefusedError(f"the list of files of {digest[:12]} {error}") from None
    return listed


def _check(listed: ArtifactList, digest: str, size_bytes: int) -> None:
    if not 0 < len(listed.files) <= MAX_FILES:
        raise RefusedError(f"names {len(listed.files)} files: expected 1 to {MAX_FILES}")
    if folder_digest({path: mark.sha256 for path, mark in listed.files.items()}) != digest:
        raise RefusedError("is another artifact's")
    for path, mark in listed.files.items():
        if not _is_plain(path):
            raise RefusedError(f"names {json.dumps(path[:120])}, which is no file within a folder")
        if inside := next((str(p) for p in PurePosixPath(path).parents if str(p) in listed.files), None):
            raise RefusedError(f"has {json.dumps(inside[:120])} both as a file and as a folder")
        count = -(-mark.size_bytes // max(1, listed.piece_bytes))
        if mark.size_bytes < 0 or len(mark.pieces) != count * _MARK_DIGITS:
            raise RefusedError("does not have a mark for each piece")
    if listed.size_bytes != size_bytes or listed.piece_bytes != _piece_bytes(size_bytes):
        raise RefusedError(f"has files of {listed.size_bytes} bytes: expected {size_bytes}")


def _is_plain(path: str) -> bool:
    """Whether a path is safe to write below a folder."""
    parts = path.split("/")
    return (
        path.isprintable()
        and "\\" not in path
        and len(parts) <= 16
        and not any(part in ("", ".", "..") or len(part.encode(errors="replace")) > 255 for part in parts)
    )
