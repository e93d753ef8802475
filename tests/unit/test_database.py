"""A database is brought to its schema with its former self kept beside it; what cannot be done is a sentence."""

import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.core.database import Database, LaterSchemaError, drop_snapshots
from appliance.core.errors import IngleError

FIRST = "CREATE TABLE word (word TEXT PRIMARY KEY)"
SECOND = "ALTER TABLE word ADD COLUMN length INTEGER NOT NULL DEFAULT 0; UPDATE word SET length = length(word)"
# The catalogue as its first schema was, with a model in it.
OLD_CATALOGUE = """
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
        FOREIGN KEY (owner, name, version) REFERENCES version (owner, name, version) ON DELETE CASCADE);
    INSERT INTO artifact VALUES ('ab', 1, '{"model.onnx": "ab"}');
    INSERT INTO model VALUES ('acme', 'old', 1);
    INSERT INTO version VALUES
        ('acme', 'old', '1.0.0', 1, 'ab', '{"inputs": [], "outputs": []}', '{}', 1, '', 1.5, 'deploy');
    INSERT INTO alias VALUES ('acme', 'old', 'prod', '1.0.0');
    PRAGMA user_version = 1;
"""


def words(file: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT * FROM word ORDER BY word").fetchall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database of the first schema."""
    database = Database(tmp_path / "words.sqlite", (FIRST,))
    with database.transaction():
        database.rows("INSERT INTO word VALUES ('one'), ('three')")
    database.close()
    return tmp_path / "words.sqlite"


def test_what_a_database_was_is_kept_until_the_new_form_has_proved_itself(file: Path) -> None:
    database = Database(file, (FIRST, SECOND))
    assert database.rows("SELECT * FROM word ORDER BY word") == [("one", 3), ("three", 5)]
    database.close()
    snapshot = Path(f"{file}.before-2")
    assert words(snapshot) == [("one",), ("three",)]
    assert snapshot.stat().st_mode & 0o077 == 0
    Database(file, (FIRST, SECOND)).close()
    assert snapshot.exists()
    drop_snapshots(file.parent)
    assert list(file.parent.glob("*before*")) == []


def test_a_migration_that_fails_changes_nothing_and_says_how_to_go_back(file: Path) -> None:
    with pytest.raises(IngleError, match=r"words\.sqlite\.before-2: start the version of Ingle that you had"):
        Database(file, (FIRST, SECOND + "; INSERT INTO nowhere VALUES (1)"))
    assert words(file) == words(Path(f"{file}.before-2")) == [("one",), ("three",)]
    again = Database(file, (FIRST, SECOND))
    assert again.rows("SELECT max(length) FROM word") == [(5,)]
    again.close()


def test_a_snapshot_is_a_database_that_the_former_version_opens(file: Path) -> None:
    Database(file, (FIRST, SECOND)).close()
    with pytest.raises(LaterSchemaError):
        Database(file, (FIRST,))
    file.unlink()
    Path(f"{file}.before-2").rename(file)
    old = Database(file, (FIRST,))
    assert old.rows("SELECT count(*) FROM word") == [(2,)]
    old.close()


def test_a_catalogue_of_the_first_schema_is_served_as_it_was(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as connection:
        connection.executescript(OLD_CATALOGUE)
    catalogue = Catalogue(tmp_path)
    assert str(catalogue.resolve("acme/old", "prod").version) == "1.0.0"
    assert catalogue.fault == ""
    catalogue.close()
    assert (tmp_path / "catalogue.sqlite.before-2").exists()


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond the limit: to a writer a disk without room."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_without_room_is_a_sentence_and_what_was_confirmed_stays(file: Path) -> None:
    database = Database(file, (FIRST,))

    def fill() -> None:
        for number in range(1000):
            with database.transaction():
                database.rows("INSERT INTO word VALUES (?)", (f"{number:05} " + "x" * 2000,))

    with full_disk(64 * 1024), pytest.raises(IngleError):
        fill()
    confirmed = database.rows("SELECT count(*) FROM word")
    with database.transaction():
        database.rows("INSERT INTO word VALUES ('there is room again')")
    database.close()
    again = Database(file, (FIRST,))
    assert again.rows("SELECT count(*) FROM word") == [(int(str(confirmed[0][0])) + 1,)]
    again.close()


@pytest.mark.parametrize(("free_bytes", "sentence"), [(0, "the disk is full"), (2**30, "check the disk")])
def test_a_disk_error_is_said_to_be_a_full_disk_where_it_is_one(
    free_bytes: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30 - free_bytes, free_bytes))  # type: ignore[attr-defined]
    database = Database(tmp_path / "words.sqlite", [FIRST])
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR | 19 << 8  # its shared memory cannot be made larger
    with pytest.raises(IngleError, match=sentence), database._faults():
        raise error
    database.close()
