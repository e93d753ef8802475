"""kill -9 at every act of a deploy, an alias or a deletion leaves the old world or the new, whole, and nothing else."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import deploy_steps
import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.core.digests import file_digest, folder_digest
from appliance.core.swap import finish_swap
from appliance.gateway.backups import Backups
from appliance.security.keys import KeyRing

ROOT = Path(__file__).parents[2]
World = dict[str, list[tuple[object, ...]]]
# All that the tables hold, but for the time of a deploy and SQLite's own numbers.
TABLES = {
    "artifact": "digest, files",
    "model": "name, last_ordinal",
    "version": "name, version, ordinal, digest, manifest",
    "alias": "name, alias, version",
    "earlier_default": "name, version",
}


def world(folder: Path) -> World:
    """What a start finds. Every byte of every artifact is verified on the way."""
    catalogue = Catalogue(folder)
    versions = [version for entry in catalogue.search() for version in entry.versions]
    catalogue.close()
    for version in versions:
        files = {path.relative_to(version.folder).as_posix(): file_digest(path) for path in files_in(version.folder)}
        assert folder_digest(files) == version.digest
    assert {str(path) for path in folder.glob("artifacts/*/*")} == {version.folder for version in versions}
    assert list((folder / "incoming").iterdir()) == []
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as connection:
        return {
            table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()
            for table, columns in TABLES.items()
        }


def files_in(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def worlds_after_kills(
    before: Path, tmp_path: Path, action: str, world: Callable[[Path], World] = world
) -> list[World]:
    """What a start finds after a kill before the first act, before the second, and so on; last: after no kill."""
    targets = tmp_path / "targets"
    targets.mkdir()
    command = [sys.executable, str(ROOT / "tests/process/deploy_steps.py"), str(before), str(targets), action]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True, timeout=300)
    return [world(folder) for folder in sorted(targets.iterdir(), key=lambda folder: int(folder.name))]


def world_with_keys(folder: Path) -> World:
    """The same, and who may come in, as a node's start finds it."""
    finish_swap(folder)
    assert list(folder.glob("swap.*")) == []
    keys = KeyRing(folder)
    labels = [(record.label, record.revoked_s is None) for record in keys.list()]
    keys.authenticate(keys.admin_key_file.read_text())  # its owner always may
    keys.close()
    return {**world(folder), "key": sorted(labels)}


def test_a_kill_at_any_act_of_a_restore_leaves_the_old_world_or_the_new(tmp_path: Path) -> None:
    other, before = tmp_path / "other", tmp_path / "before"
    for folder, contents in ((other, (b"other", b"shared")), (before, (b"mine", b"shared"))):
        catalogue, keys = Catalogue(folder), KeyRing(folder)
        for content in contents:
            deploy_steps.deploy(catalogue, content)
        keys.create(folder.name, ["call"])
        if folder == other:
            with Backups(catalogue, keys).taken("other") as backup:
                saved = b"".join(backup.pieces)
            assert len(saved) == backup.size_bytes
        catalogue.close()
        keys.close()
    (before / deploy_steps.BACKUP).write_bytes(saved)
    old = world_with_keys(before)

    worlds = worlds_after_kills(before, tmp_path, "restore", world_with_keys)
    new = worlds[-1]
    assert [{table: new[table] for table in TABLES}] == [world(other)]
    assert [label for label, _ in new["key"]][-1] == "other"
    assert worlds == [old] * worlds.count(old) + [new] * worlds.count(new)
    assert worlds.count(old) > 10
    assert worlds.count(new) > 10


@pytest.mark.parametrize("action", ["deploy", "alias", "rollback", "delete", "delete all"])
def test_a_kill_at_any_act_leaves_the_old_world_or_the_new(tmp_path: Path, action: str) -> None:
    before = tmp_path / "before"
    catalogue = Catalogue(before)
    deploy_steps.deploy(catalogue, b"first")
    deploy_steps.deploy(catalogue, b"second")
    catalogue.close()
    old = world(before)

    worlds = worlds_after_kills(before, tmp_path, action)
    new = worlds[-1]
    assert new != old
    # Some kills left the old world, the later ones the new, and none anything else.
    assert worlds == [old] * worlds.count(old) + [new] * worlds.count(new)
    assert worlds.count(old) > 10
    assert worlds.count(new) > 1


def test_a_kill_at_any_act_of_a_first_start_leaves_a_folder_that_starts(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    worlds = worlds_after_kills(before, tmp_path, "open")
    assert len(worlds) > 10
    assert worlds == [{table: [] for table in TABLES}] * len(worlds)
