"""`ingle update`: a new one file in the place of the old one, tried before it is.

The file is verified, written beside the one that runs, and started there once (for its version alone). Where a node
runs from the old one, it becomes the new one and has to be ready within a limit, or the old one goes on (core/trial.py
says how). Only then is the file replaced, by one rename.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from appliance.cli.paths import EXISTING_FILE
from appliance.cli.quantities import Number
from appliance.cli.target import NodeFile, find, read_node_file
from appliance.cli.update_choice import check_newer
from appliance.core.digests import file_digest
from appliance.core.durable import disk_faults, sync_file
from appliance.core.errors import (
    BusyError,
    ForbiddenError,
    IngleError,
    RefusedError,
    UnavailableError,
    UnsupportedError,
)
from appliance.core.own_program import foreign_environment, one_file_path
from appliance.core.release import Build, this_build
from appliance.core.trial import Trial, commit, end_trial, read_trial, write_trial

STAGED_SUFFIX = ".new"
START_LIMIT_S = 60.0  # a first start unpacks, on a slow card for long
# How long the node may take to let go: its own setting bounds its drain.
_DRAIN_LIMIT_S = 600.0
_ANSWER_LIMIT_S = 10.0
_LOOK_EVERY_S = 0.05


@click.command("update", short_help="Replace this program by a newer one.")
@click.argument("file", required=False, type=EXISTING_FILE)
@click.option("--from", "from_node", metavar="NODE", help="What this node of the mesh runs, instead of a FILE.")
@click.option("--from-mesh", is_flag=True, help="The newest that any node of the mesh runs, instead of a FILE.")
@click.option("--allow-downgrade", is_flag=True, help="Take an older version too.")
@click.option(
    "--limit",
    "limit_s",
    type=Number(1.0, 3600.0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="The new node must be ready this many seconds after its start, or the old one goes on.",
)
def command(file: Path | None, from_node: str | None, from_mesh: bool, allow_downgrade: bool, limit_s: float) -> None:
    """Replace this program by FILE, a newer one, or by what a node of the mesh runs from; 'ingle mesh' shows who is
    behind. It must be signed with the key that this program trusts, wherever it comes from.

    A node that runs drains, and starts as the new version; one that does not become ready is taken back, and the
    catalogue with it. Until the new one is ready, it has replaced nothing: a power cut leaves the old one.
    """
    from appliance.settings import load_settings

    if [file is not None, bool(from_node), from_mesh].count(True) != 1:
        raise click.UsageError("say where the new one is: FILE, --from NODE or --from-mesh, one of them")
    data_dir = load_settings().data_dir
    old, before = Path(one_file_path()), this_build()
    if not old.name:
        raise UnsupportedError(
            "this Ingle is an installed Python package, which pip updates; 'ingle update' is for the one file"
        )
    node = _running_node(data_dir, old)
    with _alone(old):
        if file is None:
            file = _fetch(node, before, from_node or "", allow_downgrade=allow_downgrade)
        if file is None:
            click.echo(f"No node of the mesh that is in reach has a newer one than {before.version}, which is here.")
        else:
            _replace(old, before, file, node, data_dir, allow_downgrade=allow_downgrade, limit_s=limit_s)


def _fetch(node: NodeFile | None, before: Build, wanted: str, *, allow_downgrade: bool) -> Path | None:
    """The file of a peer, fetched by this box's node; None where no peer has a newer one."""
    from appliance.cli.update_from_mesh import fetch_named, fetch_newest

    if node is None:
        raise UnavailableError(
            "no node runs here, and a peer's program comes over the links of a node: start it, or copy the file and "
            "use 'ingle update FILE'"
        )
    with find("", "").client() as client:
        if wanted:
            return fetch_named(client, before, wanted, allow_downgrade=allow_downgrade)
        return fetch_newest(client, before)


def _replace(
    old: Path,
    before: Build,
    file: Path,
    node: NodeFile | None,
    data_dir: Path,
    *,
    allow_downgrade: bool,
    limit_s: float,
) -> None:
    """Puts the file in the place of the old one, by way of the node where there is one."""
    from appliance.security.releases import verified

    statement = verified(file, before.update_key)
    if file_digest(file) == file_digest(old):
        click.echo(f"{old} is this very file already.")
        return
    check_newer(before, statement.version, statement.built_s, allow_downgrade=allow_downgrade)
    staged = stage(file, old)
    try:
        if verified(staged, before.update_key) != statement:
            raise RefusedError(f"{file} changed while it was read: nothing was done")
        trial = Trial(
            file=str(old),
            staged=str(staged),
            version_before=before.version,
            version=_version_of(staged),
            sha256=file_digest(staged),
            limit_s=limit_s,
        )
        if node is None:
            commit(trial)
            click.echo(f"{old} is {trial.version} now. No node of {data_dir} ran: its next start is the first.")
            return
        try_on(trial, node.pid, data_dir)
    finally:
        staged.unlink(missing_ok=True)
    click.echo(f"{old} is {trial.version} now, and the node runs it.")


def try_on(trial: Trial, pid: int, data_dir: Path) -> None:
    """Has the node become the new program, and puts that into place once it is ready. Raises IngleError where it did
    not become ready; the old one runs again then."""
    write_trial(data_dir, trial, "asked")
    os.kill(pid, signal.SIGUSR2)
    stage, since_s, committed = "asked", time.monotonic(), False
    while found := read_trial(data_dir):
        if found.stage != stage:
            stage, since_s = found.stage, time.monotonic()
        if stage == "ready" and not committed:
            committed = _committed(trial)
        limit_s = _DRAIN_LIMIT_S if stage == "asked" else trial.limit_s + _ANSWER_LIMIT_S
        if stage == "ended" or time.monotonic() - since_s > limit_s or (stage == "asked" and not _lives(pid)):
            break
        time.sleep(_LOOK_EVERY_S)
    if committed:
        return
    if found and found.stage == "asked":
        end_trial(data_dir)
        raise UnavailableError("the node did not begin to update, or ended meanwhile: the file is what it was")
    if found and found.stage == "ended":
        raise UnavailableError("the node was told to end while it was updated: its next start is of the old version")
    raise IngleError(
        f"{trial.version} did not become ready within {trial.limit_s:g} s: {trial.version_before} runs again, with the "
        "catalogue as it was. The node's log says why"
    )


def _committed(trial: Trial) -> bool:
    """Puts the new file into place, unless the node went back at the same moment."""
    try:
        commit(trial)
    except FileNotFoundError:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _running_node(data_dir: Path, old: Path) -> NodeFile | None:
    """The node that has this data folder open. Raises UnsupportedError where it is not this program's to update.

    Only compared: where root updates a service, what that has written must not choose what root does.
    """
    try:
        with (data_dir / "node.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ForbiddenError(f"{data_dir} is another user's: run this as that user, or with sudo") from None
    except BlockingIOError:
        node = read_node_file(data_dir)
    if node is None or not _is_of(node.pid, data_dir):
        raise BusyError(f"the node of {data_dir} is starting or ending: try again when it is ready") from None
    if node.file != str(old):
        runs = f"from {node.file}: run '{node.file} update'" if node.file else "as an installed Python package"
        raise UnsupportedError(f"the node of {data_dir} does not run from {old} but {runs}")
    if node.pid == 1:  # nobody in its namespace could kill it, where the new version hangs
        raise UnsupportedError(f"the node of {data_dir} is the first process of a container: give that a newer image")
    return node


def _is_of(pid: int, data_dir: Path) -> bool:
    """Whether a process of this number runs, as the data folder's owner."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid == data_dir.stat().st_uid
    except OSError:
        return False


@contextmanager
def _alone(old: Path) -> Iterator[None]:
    """One update of a file at a time. Raises ForbiddenError where its folder cannot be written."""
    if not os.access(old.parent, os.W_OK):
        raise ForbiddenError(f"{old.parent}, where the program lies, cannot be written by this user: try with sudo")
    folder = os.open(old.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BusyError(f"another update of {old} is under way") from None
    finally:
        os.close(folder)


def stage(file: Path, old: Path) -> Path:
    """A copy of the file beside the old one, on the disk."""
    staged = old.with_name(f".{old.name}{STAGED_SUFFIX}")
    with disk_faults(old.parent, file=old):
        staged.unlink(missing_ok=True)
        try:
            shutil.copyfile(file, staged)
            about = old.stat()
            staged.chmod(about.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.chown(staged, about.st_uid, about.st_gid)
            sync_file(staged)
        except OSError:
            staged.unlink(missing_ok=True)
            raise
    return staged


def _version_of(program: Path) -> str:
    """What the program says of itself when it is started on this box. Raises RefusedError where it cannot be."""
    try:
        done = subprocess.run(
            [program, "version", "--json"],
            env=foreign_environment(),
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            check=False,
        )
        if done.returncode == 0:
            return str(json.loads(done.stdout)["version"])
        why = done.stderr.strip()[-300:] or f"it ended with {done.returncode}"
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        why = str(error)
    raise RefusedError(f"{program} cannot be started on this box: {why}")
