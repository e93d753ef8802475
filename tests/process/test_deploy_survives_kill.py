"""kill -9 at every act of a deploy, an alias or a deletion leaves the old world or the new, whole, and nothing else."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import deploy_steps
import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.core.digests import file_digest, folder_digest

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


def worlds_after_kills(before: Path, tmp_path: Path, action: str) -> list[World]:
    """What a start finds after a kill before the first act, before the second, and so on; last: after no kill."""
    targets = tmp_path / "targets"
    targets.mkdir()
    command = [sys.executable, str(ROOT / "tests/process/deploy_steps.py"), str(before), str(targets), action]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True, timeout=300)
    return [world(folder) for folder in sorted(targets.iterdir(), key=lambda folder: int(folder.name))]


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
