"""What a deploy sends: an ONNX file as it is, or a bundle packed while it is being sent.

Runs where the files are: in the CLI, and in a node that is started with files. Finds what belongs to a model (external
data, manifest, labels, tokenizer, vectors); whether the model is any good is the node's to say.
"""

import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from appliance.catalogue.bundle import LABELS, MANIFEST, MODEL, VECTORS, checked_manifest, parse_labels
from appliance.catalogue.formats import is_zip
from appliance.core.errors import BadInputError, RefusedError
from appliance.core.manifest import Manifest

CHUNK_BYTES = 2**20
# A ZIP needs a date for each entry; the earliest makes the same files the same bundle on every day.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


class Package(NamedTuple):
    """What is sent. `members`: path in the bundle and file on disk; empty where `source` is sent as it is."""

    source: Path
    members: tuple[tuple[str, Path], ...]
    manifest: Manifest
    stem: str

    @property
    def size_bytes(self) -> int:
        """The bytes that are read; a bundle's headers come to it."""
        return sum(path.stat().st_size for _, path in self.members) or self.source.stat().st_size


def find_package(source: Path, manifest: Path | None = None, labels: Path | None = None) -> Package:
    """What belongs to the model in `source`: an ONNX file, a bundle, or a folder of what a bundle holds.

    Raises RefusedError where the model cannot be sent (a file it needs is missing), BadInputError where what was said
    does not fit together.
    """
    if source.is_dir():
        return _from_folder(source, manifest, labels)
    with source.open("rb") as file:
        if is_zip(file.read(4)):
            if manifest or labels:
                raise BadInputError(f"{source} is a bundle with its own manifest and labels: unpack it to change them")
            return Package(source, (), _packed_manifest(source), source.stem)
    return _from_parts(source, source.stem, manifest, labels, {})


def _from_folder(folder: Path, manifest: Path | None, labels: Path | None) -> Package:
    models = [folder / MODEL] if (folder / MODEL).is_file() else sorted(folder.glob("*.onnx"))
    if len(models) != 1:
        found = f"{len(models)} .onnx files and none is called {MODEL}" if models else "no .onnx file"
        raise BadInputError(f"{folder} has {found}: expected {MODEL}, with what belongs to it beside it")
    if manifest is None and (folder / MANIFEST).is_file():
        manifest = folder / MANIFEST
    if labels is None and (folder / LABELS).is_file():
        labels = folder / LABELS
    vectors = {VECTORS: folder / VECTORS} if (folder / VECTORS).is_file() else {}
    return _from_parts(models[0], folder.resolve().name, manifest, labels, vectors)


def _from_parts(model: Path, stem: str, manifest: Path | None, labels: Path | None, more: dict[str, Path]) -> Package:
    from appliance.catalogue.onnx_file import check_external, read_onnx

    members = {MODEL: model, **more}
    facts = read_onnx(model)
    check_external(model.parent, facts)
    members |= {path: model.parent / path for path in facts.external_files}
    table = _read_table(manifest) if manifest else {}
    if manifest:
        members[MANIFEST] = manifest
    said = table.get("labels")
    if isinstance(said, list) and labels is not None:
        raise BadInputError(f"{manifest} lists labels and {labels} has labels too: keep one of them")
    if isinstance(said, str) and labels is None:
        assert manifest is not None
        labels = manifest.parent / said
        if not labels.is_file():
            raise RefusedError(f"{manifest} names the labels file '{said}', which is not beside it")
    if labels is not None:
        members[said if isinstance(said, str) else LABELS] = labels
        table["labels"] = parse_labels(_text(labels))
    checked = checked_manifest(table)
    if checked.tokenized is not None and (tokenizer := checked.tokenized.tokenizer):
        if Path(tokenizer).name != tokenizer or not (model.parent / tokenizer).is_file():
            raise RefusedError(f"{manifest} names the tokenizer {tokenizer!a}, which is not beside the model")
        members[tokenizer] = model.parent / tokenizer
    return Package(model, tuple(members.items()) if len(members) > 1 else (), checked, stem)


def stream(package: Package, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """The upload, piece by piece. `on_bytes` is told how many bytes of the sources each piece took."""
    if not package.members:
        yield from _chunks(package.source, on_bytes)
        return
    sink = _Sink()
    # Weights hardly compress, and the node reads what it stores: no time is spent on compressing.
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, path in package.members:
            with archive.open(zipfile.ZipInfo(name, _NO_DATE), "w", force_zip64=True) as member:
                for chunk in _chunks(path, on_bytes):
                    member.write(chunk)
                    yield sink.take()
    yield sink.take()


class _Sink:
    """A file that only takes: what a ZipFile needs of an output that cannot be rewound."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here but what take() takes."""

    def close(self) -> None:
        """What was written stays until it is taken."""

    def take(self) -> bytes:
        taken, self._written = b"".join(self._written), []
        return taken


def _chunks(path: Path, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            on_bytes(len(chunk))


def _read_table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise RefusedError(f"{path} is no TOML: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RefusedError(f"{path} is no UTF-8 text") from None


def _packed_manifest(bundle: Path) -> Manifest:
    """The name and version in a bundle's manifest; what else is in there is the node's to read."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            table = tomllib.loads(archive.read(MANIFEST).decode())
    except KeyError:
        return Manifest()
    except (zipfile.BadZipFile, UnicodeDecodeError, tomllib.TOMLDecodeError, OSError, RuntimeError) as error:
        raise RefusedError(f"{bundle} is no readable bundle: {error}") from None
    return checked_manifest({key: table[key] for key in ("name", "version") if key in table})
