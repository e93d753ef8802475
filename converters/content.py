"""A file or folder of anyone, looked at within bounds: its first and last bytes, a ZIP's entries, a folder's names.

Runs in whichever process detects. Reads a few megabytes at once, whatever the file says of itself, and runs nothing.
"""

import json
import os
import zipfile
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

HEAD_BYTES = 64 * 1024
MAX_ENTRIES = 65_536
MAX_DIRECTORY_BYTES = 16 * 2**20  # of a ZIP's list of entries
MAX_TEXT_BYTES = 4 * 2**20
_END_BYTES = 65_536 + 22

_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError)


class Content:
    """`path` as it was named; everything else is read when it is asked for, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_folder = path.is_dir()

    @cached_property
    def size_bytes(self) -> int:
        return 0 if self.is_folder else self.path.stat().st_size

    @cached_property
    def head(self) -> bytes:
        """The first HEAD_BYTES of a file, b"" of a folder."""
        return self.read(0, HEAD_BYTES)

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on, MAX_TEXT_BYTES at most; b"" of a folder or what cannot be read."""
        if self.is_folder:
            return b""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(min(size, MAX_TEXT_BYTES))

    def holds(self, words: bytes) -> bool:
        """Whether these bytes are within the first and last MAX_TEXT_BYTES."""
        if words in self.read(0, MAX_TEXT_BYTES):
            return True
        return self.size_bytes > MAX_TEXT_BYTES and words in self.read(
            max(0, self.size_bytes - MAX_TEXT_BYTES), MAX_TEXT_BYTES
        )

    @cached_property
    def names(self) -> frozenset[str]:
        """A folder's files, and those one level down as `folder/name`; a ZIP's entries. At most MAX_ENTRIES."""
        if self.is_folder:
            return frozenset(self._listed())
        return self._zip_names

    def _listed(self) -> list[str]:
        found: list[str] = []
        for entry in os.scandir(self.path):
            found.append(entry.name)
            if entry.is_dir(follow_symlinks=False):
                found += [f"{entry.name}/{inner.name}" for inner in os.scandir(entry.path)]
            if len(found) >= MAX_ENTRIES:
                break
        return found[:MAX_ENTRIES]

    @cached_property
    def is_zip(self) -> bool:
        return self.head.startswith((b"PK\x03\x04", b"PK\x05\x06"))

    @cached_property
    def _zip_names(self) -> frozenset[str]:
        if not self.is_zip or self._directory_bytes() > MAX_DIRECTORY_BYTES:
            return frozenset()
        try:
            with zipfile.ZipFile(self.path) as archive:
                return frozenset(archive.namelist()[:MAX_ENTRIES])
        except _BROKEN:
            return frozenset()

    def _directory_bytes(self) -> int:
        tail = self.read(max(0, self.size_bytes - _END_BYTES), _END_BYTES)
        at = tail.rfind(b"PK\x05\x06")
        return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else MAX_DIRECTORY_BYTES + 1

    @cached_property
    def inner(self) -> dict[str, str]:
        """A ZIP's entries without the one folder that all of them lie in, by their full names."""
        tops = {name.partition("/")[0] for name in self.names}
        if len(tops) == 1 and all("/" in name for name in self.names):
            return {name.partition("/")[2]: name for name in self.names if name.partition("/")[2]}
        return {name: name for name in self.names}

    def entry(self, name: str, size: int = MAX_TEXT_BYTES) -> bytes:
        """The first `size` bytes of a file in the folder or ZIP; b"" where it is not there or not to be read."""
        try:
            if self.is_folder:
                inside = self.path / name
                if not inside.is_file() or inside.is_symlink():
                    return b""
                with inside.open("rb") as plain:
                    return plain.read(min(size, MAX_TEXT_BYTES))
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as packed:
                return packed.read(min(size, MAX_TEXT_BYTES))
        except (*_BROKEN, KeyError):
            return b""

    def json_entry(self, name: str) -> Any:
        """A small JSON file within, or None where there is none."""
        return parsed_json(self.entry(name))


def parsed_json(text: bytes) -> Any:
    """The value, or None where it is no JSON or nested without end."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
