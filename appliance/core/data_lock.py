"""One process at a time has a data folder open: the lock that says so. Used by the node, and by verbs that change the
data of a node which does not run."""

import fcntl
import os
from pathlib import Path

from appliance.core.errors import BusyError

LOCK_FILE = "node.lock"


def lock_data_folder(data_dir: Path) -> int:
    """Holds the data folder for this process; the kernel lets it go when the process ends, however it ends, or when the
    descriptor is closed. Raises BusyError where another process has it."""
    fd = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise BusyError(
            f"another node has the data folder {data_dir} open: end it, or give this one its own with --data-dir"
        ) from None
    return fd


def is_locked(data_dir: Path) -> bool:
    """Whether a node has this folder open. False where there is no such folder."""
    try:
        fd = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
