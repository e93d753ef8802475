"""How this program starts itself again in another role, and what a foreign program must not inherit from it.

Used by whatever starts a process. Installed, a role is `python -m MODULE`; in the one file, which has no such Python,
it is a hidden verb, that its entry (`appliance.cli.one_file`) turns into the same module's `main`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

MODULE_BY_ROLE = {
    "zygote": "appliance.workers.zygote",
    "front": "appliance.gateway.front_process",
    "examine": "appliance.cli.examined_apart",
    "convert": "converters.child",
    "trial-watch": "appliance.core.trial_watch",
    "ingle": "appliance.cli.main",
}
HIDDEN = "__"

# Set for a program that runs on trial, to the path of the file that it is to replace (core/trial.py).
ON_TRIAL = "INGLE_ON_TRIAL"
# What the stub and the loader of the one file set for themselves.
_LIBRARIES = "LD_LIBRARY_PATH"
_LOADERS = ("_PYI_", "LD_LIBRARY_PATH_ORIG")


def is_one_file() -> bool:
    """Whether this process runs from the one file rather than from an installed package."""
    return bool(getattr(sys, "frozen", False))


def program_folder() -> str:
    """Where the one file lies unpacked, its modules and libraries; empty where this is an installed package."""
    return str(Path(sys.executable).parent) if is_one_file() else ""


def one_file_path() -> str:
    """The one file that this process was started from, by the name that it keeps; empty where this is an installed
    package."""
    return os.environ.get(ON_TRIAL) or os.environ.get("INGLE_ONE_FILE", "") if is_one_file() else ""


def own_command(role: str, *words: str) -> list[str]:
    """The command that runs this same program in a role of MODULE_BY_ROLE."""
    if not is_one_file():
        return [sys.executable, "-m", MODULE_BY_ROLE[role], *words]
    return [sys.executable, *(() if role == "ingle" else (HIDDEN + role,)), *words]


def foreign_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment (the process's own unless told) for a program that is not Ingle: without what the one file's
    loader put there, or that program would load the libraries of this one."""
    given = os.environ if environment is None else environment
    kept = {name: value for name, value in given.items() if not name.startswith(_LOADERS)}
    if is_one_file():
        own = getattr(sys, "_MEIPASS", "")
        others = [path for path in kept.pop(_LIBRARIES, "").split(os.pathsep) if path and path != own]
        if others:
            kept[_LIBRARIES] = os.pathsep.join(others)
    return kept
