"""Where the one file begins: a hidden verb is a role that the program has itself run in, all else is the command line.

Started by the loader of `make binary`'s file, and by nothing else.
"""

import importlib
import sys

from appliance.core.own_program import HIDDEN, MODULE_BY_ROLE


def main() -> None:
    """Runs the role that the command line asks for, and ends the process."""
    role = sys.argv[1].removeprefix(HIDDEN) if len(sys.argv) > 1 and sys.argv[1].startswith(HIDDEN) else "ingle"
    if role == "ingle" or role not in MODULE_BY_ROLE:
        from appliance.cli.main import main as command_line

        command_line()
    sys.exit(importlib.import_module(MODULE_BY_ROLE[role]).main(*sys.argv[2:]))
