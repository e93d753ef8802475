"""A file of traces: an array of JSON objects that is whole after each write, and bounded.

Runs in the gateway, in a thread. Nothing else may write the file.
"""

import os
from collections.abc import Sequence
from pathlib import Path

MAX_FILE_BYTES = 64 * 2**20
MAX_FILES = 32


def append(folder: Path, name: str, objects: Sequence[bytes]) -> bool:
    """Adds objects, each a JSON text; False, and nothing is added, where the file or the folder would be too large.

    Raises OSError.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name
    if not path.exists() and sum(1 for _ in folder.iterdir()) >= MAX_FILES:
        return False
    text = b",\n".join(objects)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size + len(text) > MAX_FILE_BYTES:
            return False
        if size < 2:
            file.truncate(0)
            file.seek(0)
            file.write(b"[" + text + b"]")
        else:
            file.seek(size - 1)  # over the closing bracket
            file.write(b",\n" + text + b"]")
    return True
