"""Several files of a folder replaced as one: whenever the process ends, the old ones are there or the new.

The new files are prepared in a folder beside the old, one rename decides, and what the rename decided is carried out,
by whoever comes next if need be: finish_swap() belongs before anything opens these files. Knows nothing of what is in
them, but that a database's journal goes with it.
"""

import shutil
from pathlib import Path

from appliance.core.durable import disk_faults, sync_file, sync_folder

_PREPARED = "swap.prepared"
_DECIDED = "swap.decided"


def begin_swap(folder: Path) -> Path:
    """A fresh folder for the new files, which bear the names of those they replace. One swap at a time."""
    prepared = folder / _PREPARED
    with disk_faults(folder):
        drop_swap(folder)
        prepared.mkdir(mode=0o700)
    return prepared


def drop_swap(folder: Path) -> None:
    """Takes away what was prepared and not decided."""
    shutil.rmtree(folder / _PREPARED, ignore_errors=True)


def decide_swap(folder: Path) -> None:
    """The one act: from here on the new files are what there is. Nobody may have the old ones open any more."""
    prepared = folder / _PREPARED
    with disk_faults(folder):
        for file in prepared.iterdir():
            sync_file(file)
        sync_folder(prepared)
        prepared.rename(folder / _DECIDED)
        sync_folder(folder)


def finish_swap(folder: Path) -> bool:
    """Puts in place what was decided, and takes away what was not; whether there was anything decided."""
    decided = folder / _DECIDED
    with disk_faults(folder):
        drop_swap(folder)
        if not decided.is_dir():
            return False
        for file in sorted(decided.iterdir()):
            for journal in ("-wal", "-shm"):  # of the old file: it would be taken for the new one's
                (folder / (file.name + journal)).unlink(missing_ok=True)
            file.rename(folder / file.name)
        sync_folder(folder)
        decided.rmdir()
        sync_folder(folder)
    return True
