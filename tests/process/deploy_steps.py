"""A process that deploys, names or deletes in a catalogue and ends itself, by SIGKILL, before its Nth act on the disk.

Run as `deploy_steps.py DATA_DIR ACTION N`; ends with status 0 where the action took fewer acts. An act is a statement
given to SQLite, an fsync, a rename, or a file or folder made, opened for writing or removed.
"""

import os
import signal
import sqlite3
import sys
import zipfile
from pathlib import Path
from typing import Any

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import stage
from appliance.core.manifest import Manifest
from appliance.core.names import parse_name
from appliance.core.tensors import Signature, TensorSpec

NAME = parse_name("acme/digits")
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


ACTIONS = {
    "open": lambda catalogue: None,
    "deploy": lambda catalogue: deploy(catalogue, b"second"),
    "alias": lambda catalogue: catalogue.set_alias(NAME, "default", "1.0.0"),
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


def main() -> None:
    folder, action, acts = sys.argv[1:]
    countdown = Countdown(int(acts))
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        countdown.act()
        real_fsync(descriptor)

    real_connect = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real_connect(*arguments, **options)
        connection.set_trace_callback(countdown.act)
        return connection

    os.fsync = fsync  # type: ignore[assignment]
    sqlite3.connect = connect  # type: ignore[assignment]
    sys.addaudithook(countdown.audit)
    catalogue = Catalogue(Path(folder))
    ACTIONS[action](catalogue)
    countdown.act()  # done, and not yet closed
    catalogue.close()


if __name__ == "__main__":
    main()
