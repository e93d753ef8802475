"""A bundle: a ZIP with `model.onnx`, the files it names, and what its owner says of it in `manifest.toml`.

Runs in the gateway process, in a thread. Knows the bundle's layout and the manifest's text, not ONNX.
"""

import mmap
import tomllib
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path, PurePosixPath

from appliance.catalogue.archive import check_sizes, extract, listed_files, open_archive
from appliance.catalogue.formats import HEAD_BYTES, why_no_onnx
from appliance.core.errors import BadInputError, RefusedError
from appliance.core.manifest import Manifest, manifest_from_table
from appliance.core.names import parse_name
from appliance.core.versions import parse_version

MODEL = "model.onnx"
MANIFEST = "manifest.toml"
LABELS = "labels.txt"
VECTORS = "vectors/parity.json"

MAX_TEXT_BYTES = 4 * 2**20  # of the manifest, of the labels
MAX_SEARCHED_BYTES = 64 * 2**30  # of model.onnx for the names of its files, all together


def unpack(upload: Path, folder: Path) -> Manifest | None:
    """Unpacks the artifact's files into the empty `folder` and returns the manifest, None where neither one nor
    labels are there. Raises RefusedError naming what is wrong, UnavailableError where the disk has no room."""
    with open_archive(upload) as archive:
        entries = _with_model(listed_files(archive))
        manifest, texts = _read_manifest(archive, entries)
        kept = {path: entry for path, entry in entries.items() if path not in texts}
        check_sizes(upload, folder, kept.values())
        extract(archive, kept.pop(MODEL), folder / MODEL)
        with (folder / MODEL).open("rb") as file:
            if fault := why_no_onnx(file.read(HEAD_BYTES)):
                raise RefusedError(f"{MODEL} in the bundle is {fault}")
        tokenizer = manifest.tokenized.tokenizer if manifest and manifest.tokenized else ""
        for path in _belonging(folder / MODEL, kept, {VECTORS, tokenizer}):
            extract(archive, kept[path], folder / path)
        return manifest


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


def _belonging(model: Path, entries: Mapping[str, zipfile.ZipInfo], known: Set[str]) -> list[str]:
    """The paths of the files that belong to the model: those that are known to, and those whose name occurs in it.

    External data is named in the model's bytes as it is, so a file whose name is nowhere in them cannot be any; finding
    that out needs no parser.
    """
    others = [path for path in sorted(entries) if path not in known]
    kept = [path for path in entries if path in known]
    if len(others) * model.stat().st_size > MAX_SEARCHED_BYTES:
        return kept + others
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return kept + [path for path in others if content.find(PurePosixPath(path).name.encode()) >= 0]
