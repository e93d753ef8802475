"""How this program starts itself again in another role, and what a foreign program must not inherit from it.

Used by whatever starts a process. Installed, a role is `python -m MODULE`; in the one file, which has no such Python,
it is a hidden verb, that its entry (`appliance.cli.one_file`) turns into the same module's `main`.
"""

import os
import sys
from collections.abc import Mapping

MODULE_BY_ROLE = {
    "zygote": "appliance.workers.zygote",
    "front": "appliance.gateway.front_process",
    "examine": "appliance.cli.examined_apart",
    "convert": "converters.child",
    "ingle": "appliance.cli.main",
}
HIDDEN = "__"

# What the loader of the one file sets for itself. It keeps what LD_LIBRARY_PATH was before under the second name.
_LIBRARIES, _LIBRARIES_BEFORE = "LD_LIBRARY_PATH", "LD_LIBRARY_PATH_ORIG"
_LOADERS = "_PYI_"


def is_one_file() -> bool:
    """Whether this process runs from the one file rather than from an installed package."""
    return bool(getattr(sys, "frozen", False))


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
        before = kept.pop(_LIBRARIES_BEFORE, None)
        kept.pop(_LIBRARIES, None)
        if before:
            kept[_LIBRARIES] = before
    return kept
