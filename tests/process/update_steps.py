"""Processes that update a program, each ended by SIGKILL before one more act on the disk.

Run as `update_steps.py BEFORE TARGETS ACTION`, as deploy_steps.py is. The programs are words in a file, their databases
real ones: `new` knows one migration more than `old`. What the node and `ingle update` do in turn one process does here.
"""

import os
import sys
from pathlib import Path

from deploy_steps import Countdown, kill_before_each_act

from appliance.cli.update import stage
from appliance.core.database import Database, drop_snapshots
from appliance.core.digests import file_digest
from appliance.core.own_program import ON_TRIAL
from appliance.core.trial import Trial, commit, end_trial, is_committed, settle, write_trial

FIRST = "CREATE TABLE word (word TEXT PRIMARY KEY)"
SECOND = "ALTER TABLE word ADD COLUMN length INTEGER NOT NULL DEFAULT 0; UPDATE word SET length = length(word)"
MIGRATIONS = {"old": (FIRST,), "new": (FIRST, SECOND)}


def open_databases(folder: Path, program: str) -> list[list[tuple[object, ...]]]:
    """Does what a start of the program does; what its two databases hold."""
    found = []
    for name in ("catalogue", "keys"):
        database = Database(folder / "data" / f"{name}.sqlite", MIGRATIONS[program])
        found.append(database.rows("SELECT * FROM word ORDER BY word"))
        database.close()
    return found


def try_new(folder: Path) -> Trial:
    """An update as far as the new program is ready."""
    data = folder / "data"
    staged = stage(folder / "download", folder / "bin" / "ingle")
    trial = Trial(
        file=str(folder / "bin" / "ingle"),
        staged=str(staged),
        version_before="1.0.0",
        version="1.1.0",
        sha256=file_digest(staged),
        limit_s=1.0,
    )
    write_trial(data, trial, "asked")
    write_trial(data, trial, "running")
    os.environ[ON_TRIAL] = trial.file
    settle(data)
    open_databases(folder, "new")
    write_trial(data, trial, "ready")
    return trial


def update(folder: Path, countdown: Countdown) -> None:
    trial = try_new(folder)
    commit(trial)
    assert is_committed(trial)
    drop_snapshots(folder / "data")
    end_trial(folder / "data")
    countdown.act()


def go_back(folder: Path, countdown: Countdown) -> None:
    settle(folder / "data")
    countdown.act()


ACTIONS = {"update": update, "go back": go_back}


if __name__ == "__main__":
    sys.exit(kill_before_each_act(Path(sys.argv[1]), Path(sys.argv[2]), ACTIONS[sys.argv[3]]))
