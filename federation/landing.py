"""What a fetch has on the disk: `list.json`, and in `artifact/` the files, as large as they will be, with the pieces
that came.

A restart goes on with whatever there fits its mark: the pieces are their own journal, and nothing has to be synced
before the end. Runs in threads; knows files, not peers.
"""

import os
import shutil
from pathlib import Path

from appliance.core.digests import file_digest
from appliance.core.durable import sync_file, sync_folder, write_durably
from appliance.core.errors import UnavailableError
from federation.artifact_list import MAX_LIST_BYTES, ArtifactList, Piece, piece_mark

ARTIFACT_FOLDER = "artifact"
LIST_FILE = "list.json"
KEEP_FREE_BYTES = 64 * 2**20  # of the disk


def read_kept_list(folder: Path) -> bytes:
    """The text of the list that an earlier fetch kept. Raises OSError where there is none."""
    with (folder / LIST_FILE).open("rb") as source:
        return source.read(MAX_LIST_BYTES + 1)


def prepare(folder: Path, listed: ArtifactList) -> set[int]:
    """Makes the files as large as they will be, keeps the list, and says which pieces are there already.

    Raises UnavailableError where the disk has no room.
    """
    target = folder / ARTIFACT_FOLDER
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_room(target, listed)
    there: set[int] = set()
    wanted = {target / path for path in listed.files}
    for found in sorted(target.rglob("*"), reverse=True):
        if found.is_symlink() or (not found.is_dir() and found not in wanted):
            found.unlink()
    known = {path for path in wanted if path.is_file()}
    for path, mark in listed.files.items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if file in known:
            file.chmod(0o600)  # it may have been sealed
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, mark.size_bytes)
        finally:
            os.close(descriptor)
    for piece in listed.pieces():
        if target / piece.file in known and _fits(target, piece):
            there.add(piece.number)
    write_durably(folder / LIST_FILE, listed.encoded())
    return there


def _check_room(target: Path, listed: ArtifactList) -> None:
    used_bytes = sum(path.stat().st_blocks * 512 for path in target.rglob("*") if path.is_file())
    room_bytes = shutil.disk_usage(target).free - KEEP_FREE_BYTES + used_bytes
    if listed.size_bytes > room_bytes:
        raise UnavailableError(
            f"the copy needs {listed.size_bytes} bytes, and this node's disk has {max(0, room_bytes)} left for models: "
            "make room and try again"
        )


def _fits(target: Path, piece: Piece) -> bool:
    with (target / piece.file).open("rb") as file:
        return piece_mark(os.pread(file.fileno(), piece.size_bytes, piece.offset)) == piece.mark


def forget_list(folder: Path) -> None:
    """The list is not believed any more."""
    (folder / LIST_FILE).unlink(missing_ok=True)


def keep(folder: Path, piece: Piece, content: bytearray) -> bool:
    """Writes a piece where it fits its mark; whether it does."""
    if piece_mark(content) != piece.mark:
        return False
    descriptor = os.open(folder / ARTIFACT_FOLDER / piece.file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left, offset = memoryview(content), piece.offset
        while left:
            written = os.pwrite(descriptor, left, offset)
            left, offset = left[written:], offset + written
    finally:
        os.close(descriptor)
    return True


def seal(folder: Path, files: dict[str, str]) -> str:
    """Has all of it on the disk and unchangeable, or says which file is not what it should be (relative path to
    sha256)."""
    target = folder / ARTIFACT_FOLDER
    for path, sha256 in files.items():
        if file_digest(target / path) != sha256:
            return path
    for path in files:
        (target / path).chmod(0o400)
        sync_file(target / path)
    for folder in (target, *target.rglob("*")):
        if folder.is_dir():
            sync_folder(folder)
    return ""
