"""The catalogue's tables: rows in, models out. The only file with the catalogue's SQL.

Runs in the gateway process, under the catalogue's lock. Knows nothing of files or of what a deploy means.
"""

import sys
from collections.abc import Iterator, Mapping, Set
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import cast

import msgspec

from appliance.catalogue.index import ModelEntry, make_entry
from appliance.catalogue.mending import mend
from appliance.catalogue.shared_values import SharedValues
from appliance.core.database import DamagedError, Database
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.versions import Version, parse_version

MIGRATIONS = (
    """
    CREATE TABLE artifact (digest TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, files TEXT NOT NULL);
    CREATE TABLE model (owner TEXT NOT NULL, name TEXT NOT NULL, last_ordinal INTEGER NOT NULL,
        PRIMARY KEY (owner, name));
    CREATE TABLE version (owner TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, ordinal INTEGER NOT NULL,
        digest TEXT NOT NULL REFERENCES artifact (digest), signature TEXT NOT NULL, manifest TEXT NOT NULL,
        batchable INTEGER NOT NULL, batch_reason TEXT NOT NULL, created_s REAL NOT NULL, source TEXT NOT NULL,
        PRIMARY KEY (owner, name, version), UNIQUE (owner, name, ordinal),
        FOREIGN KEY (owner, name) REFERENCES model (owner, name) ON DELETE CASCADE);
    CREATE INDEX version_digest ON version (digest);
    CREATE TABLE alias (owner TEXT NOT NULL, name TEXT NOT NULL, alias TEXT NOT NULL, version TEXT NOT NULL,
        PRIMARY KEY (owner, name, alias),
        FOREIGN KEY (owner, name, version) REFERENCES version (owner, name, version) ON DELETE CASCADE);
    CREATE TABLE earlier_default (position INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, name TEXT NOT NULL,
        version TEXT NOT NULL,
        FOREIGN KEY (owner, name, version) REFERENCES version (owner, name, version) ON DELETE CASCADE)
    """,
    """
    CREATE TABLE wish (owner TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (owner, name, kind),
        FOREIGN KEY (owner, name) REFERENCES model (owner, name) ON DELETE CASCADE)
    """,
    """
    CREATE TABLE copied (owner TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
        PRIMARY KEY (owner, name, version),
        FOREIGN KEY (owner, name, version) REFERENCES version (owner, name, version) ON DELETE CASCADE)
    """,
)
_OF_MODEL = "WHERE owner = ? AND name = ?"
_OF_VERSION = "WHERE owner = ? AND name = ? AND version = ?"
_VERSION_COLUMNS = (
    "version, ordinal, version.digest, signature, manifest, batchable, batch_reason, created_s, source, size_bytes"
)


class Store:
    """Writes happen within `transaction()`; a name's rows are read back with `entry()`."""

    def __init__(self, path: Path, artifact_folder: Path) -> None:
        self._artifact_folder = artifact_folder
        self._database = Database(path, MIGRATIONS)
        self._shared = SharedValues(artifact_folder)
        self.is_new = self._database.is_new
        self.transaction = self._database.transaction
        self.copy_to = self._database.copy_to
        self.close = self._database.close

    def mend(self) -> None:
        """Makes salvaged rows agree with one another and with the artifacts."""
        mend(self._database, self._artifact_folder)

    def entries(self) -> Iterator[ModelEntry]:
        """All models, in one pass over the rows."""
        aliases: dict[ModelName, dict[str, Version]] = {}
        for owner, name, alias, version in self._database.each("SELECT owner, name, alias, version FROM alias"):
            of_model = aliases.setdefault(ModelName(str(owner), str(name)), {})
            of_model[str(alias)] = parse_version(str(version))
        rows = self._database.each(
            f"SELECT owner, name, {_VERSION_COLUMNS} FROM version JOIN artifact ON artifact.digest = version.digest "
            "ORDER BY owner, name"
        )
        for (owner, model), of_name in groupby(rows, itemgetter(0, 1)):
            name = ModelName(sys.intern(str(owner)), str(model))
            yield make_entry([self._version(name, row[2:]) for row in of_name], aliases.get(name, {}))

    def entry(self, name: ModelName) -> ModelEntry | None:
        """The model as the rows have it, None where there is none."""
        rows = self._database.rows(
            f"SELECT {_VERSION_COLUMNS} FROM version JOIN artifact ON artifact.digest = version.digest {_OF_MODEL}",
            name,
        )
        if not rows:
            return None
        aliases = self._database.rows(f"SELECT alias, version FROM alias {_OF_MODEL}", name)
        return make_entry(
            [self._version(name, row) for row in rows],
            {str(alias): parse_version(str(version)) for alias, version in aliases},
        )

    def _version(self, name: ModelName, row: tuple[object, ...]) -> ModelVersion:
        version, ordinal, digest, signature, manifest, batchable, reason, created_s, source, size_bytes = row
        try:
            signature_of = self._shared.signature(str(signature))
            manifest_of = self._shared.manifest(str(manifest))
        except msgspec.MsgspecError as error:
            raise DamagedError(
                f"{self._database.path} holds {name}:{version} in a form this version of Ingle cannot read ({error})"
            ) from None
        digest, folder = self._shared.address(str(digest))
        return ModelVersion(
            name=name,
            version=self._shared.version(str(version)),
            ordinal=cast(int, ordinal),
            digest=digest,
            folder=folder,
            size_bytes=cast(int, size_bytes),
            signature=signature_of,
            manifest=manifest_of,
            batchable=bool(batchable),
            batch_reason=sys.intern(str(reason)),
            created_s=cast(float, created_s),
            source=sys.intern(str(source)),
        )

    def last_ordinal(self, name: ModelName) -> int:
        """The highest ordinal this model ever had: a new version's is one more, so none is given twice."""
        rows = self._database.rows(f"SELECT last_ordinal FROM model {_OF_MODEL}", name)
        return cast(int, rows[0][0]) if rows else 0

    def put_artifact(self, digest: str, size_bytes: int, files: Mapping[str, str]) -> None:
        self._database.rows(
            "INSERT OR IGNORE INTO artifact VALUES (?, ?, ?)", (digest, size_bytes, msgspec.json.encode(files).decode())
        )

    def put_version(self, version: ModelVersion, *, copied: bool = False) -> None:
        """Writes the version, over one of the same number if there is one. `copied`: the mesh made it, unlike one that
        was deployed here."""
        self._database.rows(
            "INSERT INTO model VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET last_ordinal = max(last_ordinal, excluded.last_ordinal)",
            (*version.name, version.ordinal),
        )
        row = (
            *version.name,
            str(version.version),
            version.ordinal,
            version.digest,
            msgspec.json.encode(version.signature).decode(),
            msgspec.json.encode(version.manifest).decode(),
            int(version.batchable),
            version.batch_reason,
            version.created_s,
            version.source,
        )
        self._database.rows(
            "INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (owner, name, version) DO UPDATE SET "
            "digest = excluded.digest, signature = excluded.signature, manifest = excluded.manifest, "
            "batchable = excluded.batchable, batch_reason = excluded.batch_reason, created_s = excluded.created_s",
            row,
        )
        self._mark(version, copied=copied)

    def _mark(self, version: ModelVersion, *, copied: bool) -> None:
        statement = "INSERT OR IGNORE INTO copied VALUES (?, ?, ?)" if copied else f"DELETE FROM copied {_OF_VERSION}"
        self._database.rows(statement, (*version.name, str(version.version)))

    def copied(self) -> set[tuple[ModelName, str]]:
        """The versions that the mesh copied here and nobody deployed here: name and number."""
        rows = self._database.rows("SELECT owner, name, version FROM copied")
        return {(ModelName(str(owner), str(name)), str(version)) for owner, name, version in rows}

    def is_copied(self, version: ModelVersion) -> bool:
        return bool(self._database.rows(f"SELECT 1 FROM copied {_OF_VERSION}", (*version.name, str(version.version))))

    def keep(self, version: ModelVersion) -> None:
        """It was deployed here too: it counts as copied no more."""
        self._mark(version, copied=False)

    def delete_version(self, name: ModelName, version: Version) -> None:
        """Aliases and history that point at it go too, and with the last version the model."""
        self._database.rows(f"DELETE FROM version {_OF_VERSION}", (*name, str(version)))
        if not self._database.rows(f"SELECT 1 FROM version {_OF_MODEL} LIMIT 1", name):
            self._database.rows(f"DELETE FROM model {_OF_MODEL}", name)

    def put_alias(self, name: ModelName, alias: str, version: Version) -> None:
        self._database.rows("INSERT OR REPLACE INTO alias VALUES (?, ?, ?, ?)", (*name, alias, str(version)))

    def delete_alias(self, name: ModelName, alias: str) -> None:
        self._database.rows(f"DELETE FROM alias {_OF_MODEL} AND alias = ?", (*name, alias))

    def wishes(self, kind: str) -> dict[ModelName, str]:
        """What is wished of models in this kind of thing, as JSON."""
        rows = self._database.rows("SELECT owner, name, value FROM wish WHERE kind = ?", (kind,))
        return {ModelName(str(owner), str(name)): str(value) for owner, name, value in rows}

    def put_wish(self, name: ModelName, kind: str, value: str) -> None:
        """An empty value takes the wish back."""
        if value:
            self._database.rows("INSERT OR REPLACE INTO wish VALUES (?, ?, ?, ?)", (*name, kind, value))
        else:
            self._database.rows(f"DELETE FROM wish {_OF_MODEL} AND kind = ?", (*name, kind))

    def push_default(self, name: ModelName, version: Version) -> None:
        """Remembers what the default was, for rollback."""
        self._database.rows(
            "INSERT INTO earlier_default (owner, name, version) VALUES (?, ?, ?)", (*name, str(version))
        )

    def earlier_defaults(self, name: ModelName) -> list[str]:
        """What push_default() remembers, the latest last."""
        rows = self._database.rows(f"SELECT version FROM earlier_default {_OF_MODEL} ORDER BY position", (*name,))
        return [str(version) for (version,) in rows]

    def pop_default(self, name: ModelName, current: Version) -> None:
        """Forgets the latest remembered default that is not `current`, and all that came after it."""
        self._database.rows(
            f"DELETE FROM earlier_default {_OF_MODEL} AND position >= "
            f"(SELECT max(position) FROM earlier_default {_OF_MODEL} AND version <> ?)",
            (*name, *name, str(current)),
        )

    def drop_unreferenced(self, digests: Set[str]) -> set[str]:
        """Forgets those of these artifacts that no version names, and says which they were."""
        orphans = {digest for digest in digests if not self.names_artifact(digest)}
        for digest in orphans:
            self._database.rows("DELETE FROM artifact WHERE digest = ?", (digest,))
        return orphans

    def names_artifact(self, digest: str) -> bool:
        """Whether some version has this artifact."""
        return bool(self._database.rows("SELECT 1 FROM version WHERE digest = ? LIMIT 1", (digest,)))

    def artifacts(self) -> set[str]:
        """The digests that some version names."""
        return {str(digest) for (digest,) in self._database.rows("SELECT DISTINCT digest FROM version")}

    def files(self, digest: str) -> dict[str, str]:
        """An artifact's files, relative path to sha256; empty where it is not known."""
        rows = self._database.rows("SELECT files FROM artifact WHERE digest = ?", (digest,))
        return msgspec.json.decode(str(rows[0][0]), type=dict[str, str]) if rows else {}
