"""SHA256SUMS, as `sha256sum -c` reads it, of what `make binary` makes."""

import hashlib
from pathlib import Path

FILES = ("ingle", "ingle.cdx.json")


def write(folder: Path) -> None:
    """Of the files that are there."""
    there = [folder / name for name in FILES if (folder / name).is_file()]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in there]
    (folder / "SHA256SUMS").write_text("".join(lines))
