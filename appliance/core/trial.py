"""An update on trial: the new program runs in the place of the old one, and the file is replaced once it is ready.

`update.json` in the data folder says that one is under way. Until the new program is ready the file is the old one, so
that whatever ends the trial, a power cut too, the next start is of a program that worked: it finds update.json, and
goes back. Who does what:

    ingle update       writes the new file beside the old, `update.json` (asked), tells the node (SIGUSR2), and once the
                       trial says ready renames the new file into place: the commit
    the old node       drains, ends, starts a watch over itself (core/trial_watch.py) and becomes the new program (exec)
    the new node       says ready, and ends the trial once the file is its own
    a later start      of any program, with `update.json` still there: settle()

Used by the node, its watch and the command line. Knows neither signatures nor what a node is.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from appliance.core.database import put_back_snapshots
from appliance.core.digests import file_digest
from appliance.core.durable import sync_folder, write_durably
from appliance.core.own_program import ON_TRIAL, foreign_environment

TRIAL_FILE = "update.json"
Stage = Literal["asked", "running", "ready", "ended"]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """`update.json`. `staged` lies beside `file`, in whose place it is to come; `sha256` is of all its bytes."""

    file: str
    staged: str
    version_before: str
    version: str
    sha256: str
    limit_s: float
    stage: Stage = "asked"


def read_trial(data_dir: Path) -> Trial | None:
    """What is under way in this data folder; None: nothing, or nothing that can be read."""
    try:
        return msgspec.json.decode((data_dir / TRIAL_FILE).read_bytes(), type=Trial)
    except (OSError, msgspec.MsgspecError):
        return None


def write_trial(data_dir: Path, trial: Trial, stage: Stage) -> None:
    """Notes how far it is. Whoever owns the data folder can read it, also where root writes. Raises OSError."""
    content = msgspec.json.encode(msgspec.structs.replace(trial, stage=stage))
    write_durably(data_dir / TRIAL_FILE, content + b"\n", mode=0o644)


def end_trial(data_dir: Path) -> None:
    """From here on no start goes back."""
    (data_dir / TRIAL_FILE).unlink(missing_ok=True)
    sync_folder(data_dir)


def commit(trial: Trial) -> None:
    """The one act: from here on the file is the new program. Raises OSError."""
    Path(trial.staged).rename(trial.file)
    sync_folder(Path(trial.file).parent)


def is_committed(trial: Trial) -> bool:
    """Whether the file is the new program."""
    try:
        return not Path(trial.staged).exists() and file_digest(Path(trial.file)) == trial.sha256
    except OSError:
        return False


def is_on_trial() -> bool:
    """Whether this process was started to be tried."""
    return ON_TRIAL in os.environ


def settle(data_dir: Path) -> str:
    """What a start does first, before it opens anything of the data folder: ends a trial that is no longer under way,
    and goes back where it was not committed. A sentence for the log, or nothing. Raises IngleError."""
    trial = read_trial(data_dir)
    if trial is None:
        (data_dir / TRIAL_FILE).unlink(missing_ok=True)
        return ""
    if is_on_trial() and trial.stage == "running":
        return ""
    if is_committed(trial):
        end_trial(data_dir)
        return f"the update to {trial.version} was cut short after it had been decided: it is done now"
    put_back = put_back_snapshots(data_dir)
    with contextlib.suppress(OSError):  # the folder may be root's, and `ingle update` has its own way with it
        Path(trial.staged).unlink()
    end_trial(data_dir)
    kept = f"; {' and '.join(put_back)} are as they were before it" if put_back else ""
    return f"the update to {trial.version} did not become ready and is taken back: this is {trial.version_before}{kept}"


def become(program: str, name: str, words: Sequence[str], *, on_trial: bool) -> NoReturn:
    """Runs a one file in the place of this process, which keeps its number. `name`: the path that it is known by.
    Raises OSError where it cannot be run."""
    environment = foreign_environment()
    environment.pop(ON_TRIAL, None)
    if on_trial:
        environment[ON_TRIAL] = name
    # The new program must hold nothing of the old one: the lock on the old one's folder, for one.
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):  # the folder's own is closed by now
            if int(entry.name) > 2:
                os.set_inheritable(int(entry.name), False)
    os.execve(program, [name, *words], environment)
