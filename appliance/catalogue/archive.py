"""A ZIP from anyone: its list of entries checked before it is read, its entries before they are written.

Runs in the gateway process, in a thread. Knows ZIP, and nothing of what a bundle holds.
Source: PKWARE, APPNOTE.TXT (the end records of the list of entries).
"""

import errno
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from appliance.core.errors import RefusedError, UnavailableError

MAX_ENTRIES = 4096
MAX_DIRECTORY_BYTES = 2 * 2**20  # of the ZIP's list of entries: half a kilobyte for each
MAX_RATIO = 200  # unpacked to packed; weights compress to a half or so
RATIO_FREE_BYTES = 64 * 2**20  # below this nobody asks for the ratio: a small model may be all zeros
KEEP_FREE_BYTES = 64 * 2**20  # of the disk

_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64 = struct.Struct("<4sIQI")
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,  # a place beyond what any file can have
    NotImplementedError,
    RuntimeError,
)
_NO_ZIP = "the bundle is no readable ZIP ({}): make it anew, or upload it again"


@contextmanager
def open_archive(upload: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, for the time of the context. Raises RefusedError where it cannot be read, then or within."""
    try:
        _check_directory(upload)
        with zipfile.ZipFile(upload) as archive:
            yield archive
    except _UNREADABLE as error:
        raise RefusedError(_NO_ZIP.format(error)) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # which is a place before the file's beginning
            raise
        raise RefusedError(_NO_ZIP.format("an entry lies nowhere")) from None


def listed_files(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by their path in it, each safe to write below a folder. What a Mac adds
    is left out. Raises RefusedError naming the entry that cannot."""
    listed = archive.infolist()
    if len(listed) > MAX_ENTRIES:
        raise RefusedError(f"the bundle has {len(listed)} entries: at most {MAX_ENTRIES} are taken")
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        path = _checked_path(entry)
        if entry.is_dir() or path.startswith("__MACOSX/") or path.endswith(".DS_Store"):
            continue
        if path in entries:
            raise RefusedError(f"the bundle has '{path}' twice")
        entries[path] = entry
    for path in entries:
        if inside := next((str(p) for p in PurePosixPath(path).parents if str(p) in entries), None):
            raise RefusedError(f"the bundle has '{inside}' both as a file and as a folder")
    return entries


def check_sizes(upload: Path, folder: Path, entries: Iterable[zipfile.ZipInfo]) -> None:
    """Raises RefusedError for entries that would unpack to far more than models do, UnavailableError where the disk has
    no room for them."""
    packed = upload.stat().st_size
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > RATIO_FREE_BYTES and unpacked > MAX_RATIO * packed:
        raise RefusedError(
            f"the bundle would unpack from {packed} to {unpacked} bytes, more than {MAX_RATIO} times its size, as no "
            "model does: make it without compression if it is one"
        )
    room = shutil.disk_usage(folder).free - KEEP_FREE_BYTES
    if unpacked > room:
        raise UnavailableError(
            f"the bundle needs {unpacked} bytes unpacked and the disk has room for {max(0, room)}: "
            "make room and try again"
        )


def extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Writes one entry to `target`, which does not exist. Raises RefusedError where the entry is damaged."""
    # What is read ends at the size that the entry declares, which was counted; its checksum is verified at the end.
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with archive.open(entry) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 2**20)
    if target.stat().st_size != entry.file_size:
        raise RefusedError(f"the bundle's entry {entry.filename[:120]!a} is cut short")


def _check_directory(upload: Path) -> None:
    """Refuses a list of entries too long to be read into memory, by the end records that the reader will go by."""
    with upload.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - 2**16 - _END.size)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + _END.size > len(tail):
            raise RefusedError("the bundle is cut short: a ZIP ends with its list of entries, and this one does not")
        directory_bytes = _END.unpack_from(tail, at)[5]
        end = start + at
        places = [end - _LOCATOR_64.size - _END_64.size]
        if at >= _LOCATOR_64.size and tail.startswith(b"PK\x06\x07", at - _LOCATOR_64.size):
            places.append(_LOCATOR_64.unpack_from(tail, at - _LOCATOR_64.size)[2])
        for place in places:
            if 0 <= place <= size - _END_64.size:
                file.seek(place)
                record = _END_64.unpack(file.read(_END_64.size))
                if record[0] == b"PK\x06\x06":
                    directory_bytes = record[8] if directory_bytes == 2**32 - 1 else max(directory_bytes, record[8])
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise RefusedError(f"the bundle lists too many entries: at most {MAX_ENTRIES} are taken")


def _checked_path(entry: zipfile.ZipInfo) -> str:
    name = entry.orig_filename
    shown = ascii(name[:120])
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
        raise RefusedError(f"the bundle's entry {shown} has an absolute name or another system's: use relative/names")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > 255 for part in parts) or len(parts) > 16:
        raise RefusedError(f"the bundle's entry {shown} does not name a file within the bundle")
    if not name.isprintable():
        raise RefusedError(f"the bundle's entry {shown} has control characters in its name")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusedError(f"the bundle's entry {shown} is a link or a special file: only files and folders are taken")
    if entry.flag_bits & 0x1:
        raise RefusedError(f"the bundle's entry {shown} is encrypted: make the ZIP without a password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError(f"the bundle's entry {shown} is compressed in a way that is not taken: use deflate or store")
    return name
