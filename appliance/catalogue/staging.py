"""From an upload to an artifact: the files a model needs, in a folder of their own, digested and on the disk.

Runs in the gateway process, in a thread. Tells a bundle from an ONNX file by its first bytes and never parses a model:
that is for the sandboxed child.
"""

from pathlib import Path

import msgspec

from appliance.catalogue.archive import listed_files, open_archive
from appliance.catalogue.bundle import unpack
from appliance.catalogue.formats import HEAD_BYTES, is_zip, why_no_onnx
from appliance.core.digests import file_digest, folder_digest
from appliance.core.durable import disk_faults, sync_file, sync_folder
from appliance.core.errors import RefusedError
from appliance.core.manifest import Manifest

ARTIFACT_FOLDER = "artifact"


class StagedArtifact(msgspec.Struct, frozen=True):
    """Files that could become a version. `files`: relative path to sha256. `manifest`: None where none was brought."""

    folder: Path
    files: dict[str, str]
    digest: str
    size_bytes: int
    manifest: Manifest | None


def stage(upload: Path, incoming: Path) -> StagedArtifact:
    """Takes a complete file in `incoming`, a folder of its upload alone, apart into what an artifact keeps.

    A ZIP is a bundle: `model.onnx`, the external data it names, `vectors/parity.json`, and beside the artifact
    `manifest.toml` and labels. Anything else must be an ONNX file, which is moved and not copied. The upload is gone
    afterwards. Raises RefusedError, with a sentence on what the file is, where it is neither; UnavailableError
    where the disk is full.
    """
    folder = incoming / ARTIFACT_FOLDER
    with disk_faults(incoming):
        folder.mkdir(mode=0o700)
        return _seal(folder, _take(upload, folder))


def unpacked_bytes(upload: Path) -> int:
    """What stage() writes besides the upload itself, at most. Raises RefusedError for a bundle that cannot be read."""
    with upload.open("rb") as file:
        if not is_zip(file.read(HEAD_BYTES)):
            return 0
    with open_archive(upload) as archive:
        return sum(entry.file_size for entry in listed_files(archive).values())


def _take(upload: Path, folder: Path) -> Manifest | None:
    with upload.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if is_zip(head):
        manifest = unpack(upload, folder)
        upload.unlink()
        return manifest
    if fault := why_no_onnx(head):
        raise RefusedError(f"the file is {fault}")
    upload.rename(folder / "model.onnx")
    return None


def _seal(folder: Path, manifest: Manifest | None) -> StagedArtifact:
    files = {}
    size_bytes = 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        path.chmod(0o400)  # an artifact never changes
        sync_file(path)
        files[path.relative_to(folder).as_posix()] = file_digest(path)
        size_bytes += path.stat().st_size
    sync_folder(folder)
    return StagedArtifact(folder, files, folder_digest(files), size_bytes, manifest)
