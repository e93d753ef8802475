"""A bundle: a ZIP with `model.onnx` and what belongs to it, unpacked without trusting a word of it.

Runs in the gateway process, in a thread. Knows ZIP and the bundle's layout, not ONNX.
Sources: PKWARE's APPNOTE.TXT (the end records of the central directory).
"""

import mmap
import shutil
import stat
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from appliance.catalogue.formats import HEAD_BYTES, why_no_onnx
from appliance.core.errors import BadInputError, RefusedError, UnavailableError
from appliance.core.manifest import Manifest, manifest_from_table
from appliance.core.names import parse_name
from appliance.core.versions import parse_version

MODEL = "model.onnx"
MANIFEST = "manifest.toml"
LABELS = "labels.txt"
VECTORS = "vectors/parity.json"

MAX_ENTRIES = 4096
MAX_DIRECTORY_BYTES = 2 * 2**20  # of the ZIP's list of entries: half a kilobyte for each
MAX_TEXT_BYTES = 8 * 2**20  # of the manifest, of the labels
MAX_RATIO = 200  # unpacked to packed; weights compress to a half or so
RATIO_FREE_BYTES = 64 * 2**20  # below this nobody asks for the ratio: a small model may be all zeros
KEEP_FREE_BYTES = 256 * 2**20  # of the disk
MAX_SEARCHED_BYTES = 64 * 2**30  # of model.onnx for the names of its files, all together

_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64 = struct.Struct("<4sIQI")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError, RuntimeError)


def unpack(upload: Path, folder: Path) -> Manifest | None:
    """Unpacks the artifact's files into the empty `folder` and returns the manifest, None where the bundle has
    neither one nor labels. Raises RefusedError naming what is wrong, UnavailableError where the disk has no room."""
    try:
        _check_directory(upload)
        with zipfile.ZipFile(upload) as archive:
            entries = _entries(archive)
            manifest, texts = _read_manifest(archive, entries)
            kept = {path: entry for path, entry in entries.items() if path not in texts}
            _check_sizes(upload, folder, kept)
            _extract(archive, kept.pop(MODEL), folder / MODEL)
            with (folder / MODEL).open("rb") as file:
                if fault := why_no_onnx(file.read(HEAD_BYTES)):
                    raise RefusedError(f"{MODEL} in the bundle is {fault}")
            for path in _named_by_model(folder / MODEL, kept):
                _extract(archive, kept[path], folder / path)
            return manifest
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        struct.error,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise RefusedError(f"the bundle is no readable ZIP ({error}): make it anew, or upload it again") from None


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


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The bundle's files by their path in it, the model as `model.onnx`. Each could be written without harm."""
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
    return _with_model(entries)


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


def _with_model(entries: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Finds the model where people put it: at the top, in the one folder that was zipped, or under another name."""
    if entries and MODEL not in entries:
        folders = {path.partition("/")[0] for path in entries}
        if len(folders) == 1 and all("/" in path for path in entries):
            prefix = f"{folders.pop()}/"
            entries = {path.removeprefix(prefix): entry for path, entry in entries.items()}
    if MODEL not in entries:
        models = [path for path in entries if path.endswith(".onnx") and "/" not in path]
        if len(models) == 1:
            entries[MODEL] = entries.pop(models[0])
    if MODEL not in entries:
        if any(path.endswith("data.pkl") for path in entries):
            raise RefusedError("the file is a PyTorch model: convert it to ONNX first")
        if "config.json" in entries and "metadata.json" in entries:
            raise RefusedError("the file is a Keras model: convert it to ONNX first")
        found = ", ".join(ascii(path) for path in sorted(entries)[:5]) or "nothing"
        raise RefusedError(f"the bundle has no {MODEL}; it has {found}")
    return entries


def _read_manifest(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]
) -> tuple[Manifest | None, frozenset[str]]:
    """The manifest with its labels read, and the paths of the entries it was read from."""
    table = {}
    if MANIFEST in entries:
        try:
            table = tomllib.loads(_text(archive, entries[MANIFEST], MANIFEST))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise RefusedError(f"{MANIFEST} in the bundle is no TOML: {error}") from None
    labels = table.get("labels")
    if labels is None and LABELS in entries:
        labels = LABELS
    if isinstance(labels, str):
        if labels not in entries:
            raise RefusedError(f"{MANIFEST} names the labels file {labels[:120]!a}, which is not in the bundle")
        table["labels"] = parse_labels(_text(archive, entries[labels], labels))
    texts = frozenset(t for t in (MANIFEST, LABELS, labels) if isinstance(t, str) and t in entries)
    return (checked_manifest(table) if table else None), texts


def parse_labels(text: str) -> list[str]:
    """One label a line, in the order of the model's output; an empty line is a label without a name."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def checked_manifest(table: dict[str, object]) -> Manifest:
    """The manifest, its name and version being such as can be. Raises RefusedError."""
    try:
        manifest = manifest_from_table(table)
        if manifest.name:
            parse_name(manifest.name)
        if manifest.version:
            parse_version(manifest.version)
    except BadInputError as error:
        raise RefusedError(f"{MANIFEST}: {error}") from None
    return manifest


def _text(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str) -> str:
    if entry.file_size > MAX_TEXT_BYTES:
        raise RefusedError(f"{path!a} in the bundle is too large: at most {MAX_TEXT_BYTES} bytes are taken")
    try:
        return archive.read(entry).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path!a} in the bundle is no UTF-8 text: {error.reason}") from None


def _check_sizes(upload: Path, folder: Path, entries: Mapping[str, zipfile.ZipInfo]) -> None:
    packed = upload.stat().st_size
    unpacked = sum(entry.file_size for entry in entries.values())
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


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    # What is read ends at the size that the entry declares, which was counted; its checksum is verified at the end.
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with archive.open(entry) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 2**20)
    if target.stat().st_size != entry.file_size:
        raise RefusedError(f"the bundle's entry {entry.filename[:120]!a} is cut short")


def _named_by_model(model: Path, entries: Mapping[str, zipfile.ZipInfo]) -> list[str]:
    """The paths of the files that belong to the model: those whose name occurs in it, and the vectors.

    External data is named in the model's bytes as it is, so a file whose name is nowhere in them cannot be any; finding
    that out needs no parser.
    """
    others = [path for path in sorted(entries) if path != VECTORS]
    kept = [path for path in entries if path == VECTORS]
    if len(others) * model.stat().st_size > MAX_SEARCHED_BYTES:
        return kept + others
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return kept + [path for path in others if content.find(PurePosixPath(path).name.encode()) >= 0]
