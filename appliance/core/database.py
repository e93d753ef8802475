"""A small SQLite file that survives kill -9: opened, checked, brought to its schema, and its faults as sentences.

Used by the gateway process for what must not be lost (the catalogue, the keys). Knows no table of its own.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

from appliance.core.durable import disk_faults, sync_file, sync_folder
from appliance.core.errors import IngleError, UnavailableError

LOCK_WAIT_S = 5.0
_LEAST_FREE_BYTES = 256 * 1024  # of the disk, for a database to be opened at all


class DamagedError(IngleError):
    """The file is no database, or something in it is not what was written there: `what`, as the start of a sentence."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: put back a copy of it, or move it away and start again without what it held")
        self.what = what


class LaterSchemaError(IngleError):
    """The file was made by a later version of Ingle."""


class Database:
    """One connection, for one thread at a time: its owner holds a lock.

    `migrations[i]` is the script that brings schema `i` to `i + 1`. Raises DamagedError where the file is
    no database or is damaged, LaterSchemaError, and UnavailableError where another process holds it or the disk is
    full.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.path = path
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its journal the mode of the file: nobody else's eyes on either.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=LOCK_WAIT_S, cached_statements=64
            )
        try:
            with self._faults():
                self.is_new = self._open(migrations)
        except BaseException:
            self._connection.close()
            raise

    def _open(self, migrations: Sequence[str]) -> bool:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(self.path, " ".join(str(verdict).split()))
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if schema > len(migrations):
            raise LaterSchemaError(
                f"{self.path} was made by a later version of Ingle (its schema is {schema}, this version knows "
                f"{len(migrations)}): start that version, or use another data folder"
            )
        if schema < len(migrations):
            self._migrate(schema, migrations)
        return bool(schema == 0)

    def _migrate(self, schema: int, migrations: Sequence[str]) -> None:
        """Brings the file to the latest schema, one transaction a step; what it was is kept beside it until
        drop_snapshots()."""
        snapshot = Path(f"{self.path}.before-{schema + 1}")
        if schema:
            # By rename: what is there under this name is whole, for put_back_snapshots().
            partial = Path(f"{snapshot}.part")
            partial.unlink(missing_ok=True)
            self.copy_to(partial)
            sync_file(partial)
            partial.rename(snapshot)
            sync_folder(snapshot.parent)
        try:
            for number in range(schema, len(migrations)):
                with self.transaction():
                    for statement in migrations[number].split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {number + 1}")
        except (IngleError, sqlite3.Error) as error:
            if not schema:
                raise
            raise IngleError(
                f"{self.path} could not be brought to this version's form ({error}). It is kept in {snapshot}: "
                f"start the version of Ingle that you had, with that file in the place of {self.path.name}"
            ) from error

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """All rows of a query, or of a statement within transaction()."""
        with self._faults():
            return self._connection.execute(query, parameters).fetchall()

    def each(self, query: str, parameters: Sequence[object] = ()) -> Iterator[tuple[object, ...]]:
        """The rows of a query as they are read, for those that are many. Nothing else is done until they are read."""
        with self._faults():
            for row in self._connection.execute(query, parameters):  # noqa: UP028 - would close the cursor too late
                yield row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is written within, on the disk when it ends; nothing of it if it raises."""
        with self._faults():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._faults():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def copy_to(self, target: Path) -> None:
        """Writes all that is committed to a new file, for its owner's eyes alone."""
        with self._faults():
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._connection.execute("VACUUM INTO ?", (str(target),))

    def close(self) -> None:
        """Ends the connection; twice is once."""
        self._connection.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _fault(self.path, error) from error
        except OSError as error:
            raise IngleError(f"{self.path} cannot be opened: {error.strerror}; check the data folder") from error


def drop_snapshots(folder: Path) -> None:
    """Takes away what was kept before migrations: the new form has proved itself."""
    for snapshot in folder.glob("*.sqlite.before-*"):
        snapshot.unlink(missing_ok=True)


def put_back_snapshots(folder: Path) -> list[str]:
    """Puts what was kept before migrations in the place of what they made; the names of those databases. Nobody may
    have one of them open. Cut short, it is to be called again before anything opens them. Raises IngleError."""
    put_back = []
    with disk_faults(folder):
        # Of several of one database the oldest: it was before all that failed since.
        for snapshot in sorted(folder.glob("*.sqlite.before-*"), key=_schema_after, reverse=True):
            file = folder / snapshot.name.rpartition(".before-")[0]
            if snapshot.suffix == ".part":
                snapshot.unlink()
                continue
            for journal in ("-wal", "-shm"):  # of the new form: it would be taken for the old one's
                Path(f"{file}{journal}").unlink(missing_ok=True)
            snapshot.rename(file)
            put_back.append(file.name)
        sync_folder(folder)
    return put_back


def _schema_after(snapshot: Path) -> int:
    number = snapshot.name.rpartition(".before-")[2].removesuffix(".part")
    return int(number) if number.isdigit() else 0


def keep_damaged(path: Path) -> Path:
    """Copies a damaged database beside itself, for whoever can read more of it than we; the copy."""
    number = 1
    while (kept := Path(f"{path}.damaged-{number}")).exists():
        number += 1
    with disk_faults(path.parent):
        shutil.copyfile(path, kept)
        kept.chmod(0o600)
        if Path(f"{path}-wal").exists():
            shutil.copyfile(f"{path}-wal", f"{kept}-wal")
    return kept


def remove_database(path: Path) -> None:
    """Takes away a database that no connection has open, with its journal. Raises IngleError."""
    with disk_faults(path.parent):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return inf


def _fault(path: Path, error: sqlite3.Error) -> IngleError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the family, the rest says which of it
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UnavailableError(
            f"{path} is in use by another process: end that process, or use another data folder", retry_after_s=1.0
        )
    # With no room for its shared memory a database that is only opened fails as a broken disk does.
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _free_bytes(path.parent) < _LEAST_FREE_BYTES):
        return UnavailableError(f"{path} cannot be written, the disk is full: make room and try again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return IngleError(f"{path} cannot be opened for writing ({error}): check who owns the data folder")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, error)
    return IngleError(f"{path} failed ({error}): check the disk and the data folder")


def _damaged(path: Path, detail: object) -> DamagedError:
    return DamagedError(f"{path} is damaged ({detail})")
