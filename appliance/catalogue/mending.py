"""Rows that were salvaged from a damaged catalogue, brought to agree with one another and with the artifacts.

Runs in the gateway process, on a copy; what cannot be made to agree is left out of it.
"""

import logging
from pathlib import Path

import msgspec

from appliance.catalogue.artifacts import artifact_path
from appliance.core.database import Database
from appliance.core.digests import file_digest, folder_digest
from appliance.core.errors import IngleError
from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature
from appliance.core.versions import parse_version

_log = logging.getLogger("ingle.salvage")


def mend(database: Database, artifact_folder: Path) -> None:
    """Afterwards each version has its model and its artifact, and whatever refers to a version refers to one."""
    with database.transaction():
        for digest in _unknown_artifacts(database):
            if files := _files_of(artifact_path(artifact_folder, digest), digest):
                size_bytes = sum((artifact_path(artifact_folder, digest) / path).stat().st_size for path in files)
                row = (digest, size_bytes, msgspec.json.encode(files).decode())
                database.rows("INSERT INTO artifact VALUES (?, ?, ?)", row)
        lost = set(_unknown_artifacts(database))
        columns = "rowid, owner, name, version, signature, manifest, digest"
        for row_id, owner, name, version, *texts, of in database.rows(f"SELECT {columns} FROM version"):
            if of in lost or not _is_readable(version, *texts):
                _log.error("%s/%s:%s cannot be read from the catalogue", owner, name, version)
                database.rows("DELETE FROM version WHERE rowid = ?", (row_id,))
        database.rows("INSERT OR IGNORE INTO model SELECT owner, name, max(ordinal) FROM version GROUP BY owner, name")
        database.rows("DELETE FROM model WHERE (owner, name) NOT IN (SELECT owner, name FROM version)")
        for table in ("alias", "earlier_default", "copied"):
            database.rows(
                f"DELETE FROM {table} WHERE (owner, name, version) NOT IN (SELECT owner, name, version FROM version)"
            )
        database.rows("DELETE FROM wish WHERE (owner, name) NOT IN (SELECT owner, name FROM model)")


def _unknown_artifacts(database: Database) -> list[str]:
    rows = database.rows("SELECT DISTINCT digest FROM version WHERE digest NOT IN (SELECT digest FROM artifact)")
    return [str(digest) for (digest,) in rows]


def _files_of(folder: Path, digest: str) -> dict[str, str]:
    """The artifact's files as they lie there, if they are what its digest says."""
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
    except OSError:
        return {}
    return files if folder_digest(files) == digest else {}


def _is_readable(version: object, signature: object, manifest: object) -> bool:
    try:
        parse_version(str(version))
        msgspec.json.decode(str(signature), type=Signature)
        msgspec.json.decode(str(manifest), type=Manifest)
    except (IngleError, msgspec.MsgspecError):
        return False
    return True
