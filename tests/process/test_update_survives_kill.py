"""kill -9 at any act of an update leaves the old program with its catalogue, or the new one with its own: it works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import update_steps

from appliance.core.database import Database
from appliance.core.own_program import ON_TRIAL
from appliance.core.trial import read_trial, settle

ROOT = Path(__file__).parents[2]
OLD = ("old", [[("one",), ("three",)]] * 2)
NEW = ("new", [[("one", 3), ("three", 5)]] * 2)


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box with the old program, its databases, and the new one downloaded."""
    monkeypatch.delenv(ON_TRIAL, raising=False)
    folder = tmp_path / "before"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/ingle").write_text("old")
    (folder / "download").write_text("new")
    for name in ("catalogue", "keys"):
        database = Database(folder / "data" / f"{name}.sqlite", update_steps.MIGRATIONS["old"])
        with database.transaction():
            database.rows("INSERT INTO word VALUES ('one'), ('three')")
        database.close()
    return folder


def started(folder: Path) -> tuple[str, list[list[tuple[object, ...]]]]:
    """The program that a start runs, and what it then finds."""
    program = (folder / "bin/ingle").read_text()
    settle(folder / "data")
    found = update_steps.open_databases(folder, program)
    assert read_trial(folder / "data") is None
    return program, found


def starts_after_kills(before: Path, action: str) -> list[tuple[str, list[list[tuple[object, ...]]]]]:
    targets = before.with_name("targets")
    targets.mkdir()
    command = [sys.executable, str(ROOT / "tests/process/update_steps.py"), str(before), str(targets), action]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True, timeout=300)
    return [started(folder) for folder in sorted(targets.iterdir(), key=lambda folder: int(folder.name))]


def test_a_kill_at_any_act_of_an_update_leaves_a_program_that_works(before: Path) -> None:
    worlds = starts_after_kills(before, "update")
    assert worlds == [OLD] * worlds.count(OLD) + [NEW] * worlds.count(NEW)
    assert worlds.count(OLD) > 30
    assert worlds.count(NEW) > 3


def test_a_kill_at_any_act_of_going_back_is_made_good_by_the_next_start(before: Path) -> None:
    update_steps.try_new(before)
    os.environ.pop(ON_TRIAL)
    worlds = starts_after_kills(before, "go back")
    assert len(worlds) > 10
    assert worlds == [OLD] * len(worlds)


def test_an_update_can_be_tried_again_after_it_was_taken_back(before: Path) -> None:
    update_steps.try_new(before)
    os.environ.pop(ON_TRIAL)
    assert started(before) == OLD
    assert list((before / "bin").iterdir()) == [before / "bin/ingle"]
    (only,) = starts_after_kills(before, "update")[-1:]
    assert only == NEW
