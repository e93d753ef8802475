"""`ingle install`: a service of systemd's that serves from the start of the box on, under a user of its own."""

import os
import pwd
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from appliance.cli.completion import SHELLS, script
from appliance.cli.service import DATA, NAME, PROGRAM, UNIT, USER, Box, Step, is_run_by_systemd, plan_install
from appliance.cli.target import NodeFile, read_node_file
from appliance.core.digests import file_digest
from appliance.core.errors import ForbiddenError, UnavailableError, UnsupportedError
from appliance.core.own_program import is_one_file, one_file_path

READY_LIMIT_S = 60.0
_LOOK_EVERY_S = 0.1


@click.command("install", short_help="Make this box start a node by itself.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--no-start", is_flag=True, help="Leave the start to you, or to the next start of the box.")
def command(dry_run: bool, no_start: bool) -> None:
    """Install a systemd service: this program, a user for it, a data folder, a hardened unit, completion for shells.

    Settings are in ingle.toml in the data folder, or in /etc/default/ingle as INGLE_... variables. 'ingle uninstall'
    takes all of it away but the data.
    """
    steps = plan_install(this_box(), {shell: script(shell) for shell in SHELLS}, start=not no_start)
    carry_out(steps, dry_run=dry_run)
    if dry_run:
        return
    click.echo(f"Installed. Its log: journalctl -u {NAME}. Its key: {DATA}/admin.key, which 'sudo ingle' finds itself.")
    if no_start:
        return
    if (node := _ready_node()) is None:
        raise UnavailableError(f"the node is not ready after {READY_LIMIT_S:g} s: 'journalctl -u {NAME}' says why")
    click.echo(f"Node '{node.name}' is ready: HTTP on {node.http or 'no address'}.")


def _ready_node() -> NodeFile | None:
    """The node that was started, once it is ready. Its first start unpacks the program."""
    ends_s = time.monotonic() + READY_LIMIT_S
    while (node := read_node_file(DATA)) is None and time.monotonic() < ends_s:
        time.sleep(_LOOK_EVERY_S)
    return node


def this_box() -> Box:
    """What a plan needs to know of it."""
    program = Path(one_file_path() or shutil.which("ingle") or sys.argv[0]).absolute()
    installed = ""
    if PROGRAM.exists():
        installed = "same" if is_one_file() and file_digest(PROGRAM) == file_digest(program) else "other"
    try:
        pwd.getpwnam(USER)
        has_user = True
    except KeyError:
        has_user = False
    return Box(program, is_one_file(), installed, has_user, UNIT.exists())


def carry_out(steps: Sequence[Step], *, dry_run: bool) -> None:
    """Shows each step and takes it, or only shows them. Raises ForbiddenError or UnsupportedError before the first."""
    if not dry_run and not is_run_by_systemd():
        raise UnsupportedError(
            "this box is not run by systemd (/run/systemd/system is not there): have what starts its services run "
            "'ingle serve'; '--dry-run' shows the unit, which says what a service of Ingle needs"
        )
    if not dry_run and os.geteuid() != 0:
        raise ForbiddenError("this needs root: try it with sudo, or with --dry-run to see what it would do")
    for step in steps:
        click.echo(step.shown() if dry_run else step.shown().partition("\n")[0])
        if not dry_run:
            step.take()
