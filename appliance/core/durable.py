"""Files that survive a power cut: written, synced and renamed into place, so that a reader sees the old or the new.

Used by whatever keeps state on disk. Knows nothing of what the files are.
"""

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Returns when the file's bytes are on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Returns when the folder's list of names is on the disk: a file made or renamed in it then stays."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replaces `path` with `content` at once; readers see all of it or what was there before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
