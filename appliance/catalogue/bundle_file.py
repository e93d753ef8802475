"""A bundle as one file: written from its members, and the digests of what is in one.

Runs in the command line, and in the gateway in a thread. Knows ZIP and digests; signatures are bytes here.
"""

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from appliance.catalogue.archive import listed_files, open_archive
from appliance.core.digests import file_digest
from appliance.core.errors import RefusedError

SIGNATURE = "signature.json"
MAX_SIGNATURE_BYTES = 2**20
CHUNK_BYTES = 2**20
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def member_digests(members: Mapping[str, Path]) -> dict[str, str]:
    """The sha256 of each member, by its path in the bundle."""
    return {name: file_digest(path) for name, path in members.items()}


def write_bundle(target: Path, members: Mapping[str, Path], signature: bytes | None = None) -> None:
    """Writes the bundle beside `target` and renames it there: a reader never sees half of one. The same members make
    the same bytes on every day."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name, path in members.items():
                with path.open("rb") as source, archive.open(_entry(name), "w", force_zip64=True) as member:
                    while chunk := source.read(CHUNK_BYTES):
                        member.write(chunk)
            if signature is not None:
                archive.writestr(_entry(SIGNATURE), signature)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def bundle_digests(bundle: Path) -> tuple[dict[str, str], bytes | None]:
    """The sha256 of each entry but the signature, and the signature. Raises RefusedError where the ZIP is not sound."""
    digests: dict[str, str] = {}
    signature = None
    with open_archive(bundle) as archive:
        for name, entry in listed_files(archive).items():
            with archive.open(entry) as content:
                if name == SIGNATURE:
                    if entry.file_size > MAX_SIGNATURE_BYTES:
                        raise RefusedError(f"{SIGNATURE} in the bundle is too large")
                    signature = content.read(MAX_SIGNATURE_BYTES)
                    continue
                digest = hashlib.sha256()
                while chunk := content.read(CHUNK_BYTES):
                    digest.update(chunk)
                digests[name] = digest.hexdigest()
    return digests, signature


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _NO_DATE)
    entry.external_attr = 0o644 << 16
    return entry
