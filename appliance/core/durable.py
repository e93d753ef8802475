"""Files that survive a power cut: written, synced and renamed into place, so that a reader sees the old or the new.

Used by whatever keeps state on disk. Knows nothing of what the files are.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.core.errors import IngleError, UnavailableError


@contextmanager
def disk_faults(folder: Path, *, file: Path | None = None) -> Iterator[None]:
    """Says what the disk with `folder` cannot do: UnavailableError where it is full, IngleError for the rest. `file` is
    the one that its user named, where it is that and not the data folder which is written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnavailableError(f"the disk with {folder} is full: make room and try again") from error
        if file is not None:
            raise IngleError(
                f"{file} cannot be written ({error.strerror}): expected a folder that is there and may be written"
            ) from error
        where = error.filename or folder
        raise IngleError(f"the data folder failed at {where} ({error.strerror}): check its owner and disk") from error


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
