"""Processes that deploy, name or delete in a catalogue, each ended by SIGKILL before one more act on the disk.

Run as `deploy_steps.py BEFORE TARGETS ACTION`. For N = 1, 2, 3 ... a process is forked that takes the action in
TARGETS/N, a copy of BEFORE, and kills itself before its Nth act; the first that takes fewer acts ends it all. An act is
a statement given to SQLite, an fsync, a rename, or a file or folder made, opened for writing, changed or removed.
"""

import os
import shutil
import signal
import sqlite3
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import stage
from appliance.core.manifest import Manifest
from appliance.core.names import parse_name
from appliance.core.tensors import Signature, TensorSpec
from appliance.gateway.backups import Backups
from appliance.security.keys import KeyRing

NAME = parse_name("acme/digits")
BACKUP = "backup.tar"
SPEC = TensorSpec("x", "FP32", (-1, 4))
INSPECTION = Inspection(Signature((SPEC,), (SPEC,)), True, "its first dimension is free")
_ACTS = frozenset(("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "shutil.rmtree"))


def deploy(catalogue: Catalogue, content: bytes) -> None:
    """A bundle with external data, published as the next version."""
    incoming = catalogue.new_incoming()
    upload = incoming / "upload"
    with zipfile.ZipFile(upload, "w") as bundle:
        # The first bytes of a model; no test of this file opens it as one.
        bundle.writestr("model.onnx", b"\x08\x0a weights.bin " + content)
        bundle.writestr("weights.bin", content * 1000)
        bundle.writestr("manifest.toml", f'description = "{len(content)}"')
    staged = stage(upload, incoming)
    catalogue.publish(staged, INSPECTION, name=NAME, version=None, manifest=staged.manifest or Manifest())
    catalogue.discard(incoming)


def restore(catalogue: Catalogue) -> None:
    """The backup that lies in the data folder."""
    keys = KeyRing(catalogue.folder)
    with (catalogue.folder / BACKUP).open("rb") as backup:
        Backups(catalogue, keys).restore(backup)
    keys.close()


ACTIONS = {
    "restore": restore,
    "open": lambda catalogue: None,
    "deploy": lambda catalogue: deploy(catalogue, b"a third"),
    "alias": lambda catalogue: catalogue.set_alias(NAME, "default", "1.0.0"),
    "rollback": lambda catalogue: catalogue.rollback(NAME),
    "delete": lambda catalogue: catalogue.delete(NAME, "1.0.0"),
    "delete all": lambda catalogue: catalogue.delete(NAME),
}


class Countdown:
    """Counts acts, and ends the process before the last."""

    def __init__(self, acts: int) -> None:
        self.left = acts

    def act(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _ACTS or (event == "open" and _writes(arguments)):
            self.act()


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def hook(countdown: Countdown) -> None:
    """From here on each act of this process is counted."""
    real_fsync, real_connect = os.fsync, sqlite3.connect

    def fsync(descriptor: int) -> None:
        countdown.act()
        real_fsync(descriptor)

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real_connect(*arguments, **options)
        connection.set_trace_callback(countdown.act)
        return connection

    os.fsync = fsync  # type: ignore[assignment]
    sqlite3.connect = connect  # type: ignore[assignment]
    sys.addaudithook(countdown.audit)


def kill_before_each_act(before: Path, targets: Path, action: Callable[[Path, Countdown], None]) -> int:
    """Takes the action in copies of `before`, one after the other, as the module says; the last one's exit status."""
    acts = 0
    status = -signal.SIGKILL
    while status == -signal.SIGKILL:
        acts += 1
        shutil.copytree(before, targets / str(acts))
        child = os.fork()
        if child == 0:
            countdown = Countdown(acts)
            hook(countdown)
            action(targets / str(acts), countdown)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status


def main() -> None:
    action = ACTIONS[sys.argv[3]]

    def act(folder: Path, countdown: Countdown) -> None:
        catalogue = Catalogue(folder)
        action(catalogue)
        countdown.act()  # done, and not yet closed
        catalogue.close()

    sys.exit(kill_before_each_act(Path(sys.argv[1]), Path(sys.argv[2]), act))


if __name__ == "__main__":
    main()
