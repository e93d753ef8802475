"""TensorRT's engines on disk: a folder for each model on each kind of device.

    DATA/cache/engines/KIND/DIGEST/    model_*.engine, model_*.profile: written by the worker of the device
    DATA/cache/engines/KIND/           TensorRT's timings of kernels, which serve all models
    DATA/cache/engines-incoming/       what is fetched from peers; no worker writes there

Runs in the gateway's process, in threads. What the worker left is looked at and believed in nothing but its bytes: it
ran a stranger's model.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from appliance.core.digests import folder_digest
from appliance.workers.engines import MAX_FILES, is_engine_name, is_kind

Address = tuple[str, str]  # kind of device, model's digest
_Look = tuple[tuple[str, int, int, int], ...]  # name, inode, size, time of the last change
_TRIAL = "trial"  # the tiny model with which the worker tries the device


class EngineSet(NamedTuple):
    """A model's engines as they lie here. `digest` is that of the folder's `files` (name to sha256)."""

    digest: str
    size_bytes: int
    folder: Path
    files: dict[str, str]


class Kept(NamedTuple):
    """What one folder takes, and when it was last loaded from (Unix time)."""

    size_bytes: int
    used_s: float


def doomed(kept: Mapping[Address, Kept], *, budget_bytes: int, in_use: Collection[Address] = ()) -> list[Address]:
    """What must go so that the rest fits: the longest unused first, never what was asked for just now."""
    going: list[Address] = []
    total_bytes = sum(item.size_bytes for item in kept.values())
    for address, item in sorted(kept.items(), key=lambda pair: pair[1].used_s):
        if total_bytes > budget_bytes and item.size_bytes and address not in in_use:
            going.append(address)
            total_bytes -= item.size_bytes
    return going


class EngineCache:
    """The engines under one folder. One process at a time; its methods may be called from any thread."""

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        """`budget_bytes` 0: none are kept."""
        self.folder = folder / "engines"
        self.incoming = folder / "engines-incoming"
        self.budget_bytes = budget_bytes
        self._known: dict[Address, tuple[_Look, EngineSet]] = {}
        self._disk = threading.RLock()

    def open(self, digests: Collection[str]) -> None:
        """Makes the folder, and removes what no artifact in `digests` needs: those of models that are gone, and what
        releases before kept of all models together. Raises OSError where the folder cannot be had."""
        with self._disk:
            shutil.rmtree(self.incoming, ignore_errors=True)
            for folder in (self.folder, self.folder / _TRIAL, self.incoming):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in self.folder.iterdir():
                if path.is_symlink() or not path.is_dir():
                    path.unlink()
            for address in self._addresses():
                if address[1] not in digests:
                    self._take_away(address)
            self.make_room()

    def place_of(self, kind: str, digest: str) -> Path:
        return self.folder / kind / digest

    def prepare(self, kind: str, digest: str) -> Path:
        """The folder that this model is loaded with, from now on the last that was used. Raises OSError."""
        folder = self.place_of(kind, digest)
        with self._disk:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.utime(folder)
        return folder

    def has(self, kind: str, digest: str) -> bool:
        """Whether the model has engines, be they whole or not. Reads no file."""
        return bool(_look(self.place_of(kind, digest)))

    def find(self, kind: str, digest: str) -> EngineSet | None:
        """The model's engines, if there are any. Reads those that changed since they were read last; None too where
        they change meanwhile: who writes them says when it is done."""
        address, folder = (kind, digest), self.place_of(kind, digest)
        before = _look(folder)
        known = self._known.get(address)
        if known is not None and known[0] == before:
            return known[1]
        self._known.pop(address, None)
        files = {name: sha256 for name, *_ in before if (sha256 := _file_digest(folder / name))}
        if not files or len(files) != len(before) or _look(folder) != before:
            return None
        size_bytes = sum(size for _, _, size, _ in before)
        found = EngineSet(folder_digest(files), size_bytes, folder, files)
        self._known[address] = (before, found)
        return found

    def found(self, kind: str, digests: Collection[str]) -> dict[str, EngineSet]:
        """Those of these models on this kind of device, by the model's digest."""
        there = [digest for each, digest in self._addresses() if each == kind and digest in digests]
        return {digest: engines for digest in there if (engines := self.find(kind, digest)) is not None}

    def take(self, kind: str, digest: str, fetched: Path, names: Collection[str]) -> None:
        """Moves engines that were fetched to where the model is loaded from, unless it has some by now. Raises
        ValueError where a name is none of an engine's, OSError where the disk fails."""
        if wrong := sorted(name for name in names if not is_engine_name(name)):
            raise ValueError(f"{wrong[0][:80]!a} is no engine's name")
        if not 0 < len(names) <= MAX_FILES:
            raise ValueError(f"{len(names)} files are no model's engines: expected 1 to {MAX_FILES}")
        with self._disk:
            target = self.prepare(kind, digest)
            if _look(target):
                return
            for name in sorted(names):
                (fetched / name).chmod(0o600)  # the worker builds another in its place where shapes ask for it
                (fetched / name).rename(target / name)

    def drop(self, kind: str, digest: str) -> None:
        """What lies there is of no use: the next load builds anew."""
        with self._disk:
            self._take_away((kind, digest))

    def forget(self, digest: str) -> None:
        """The artifact is gone: so go its engines, for whatever device."""
        with self._disk:
            for address in self._addresses():
                if address[1] == digest:
                    self._take_away(address)

    def make_room(self, in_use: Collection[Address] = ()) -> list[str]:
        """Removes what is more than all engines may take together; the digests of the models that lose theirs."""
        with self._disk:
            kept = {address: _kept(self.place_of(*address)) for address in self._addresses()}
            going = doomed(kept, budget_bytes=self.budget_bytes, in_use=in_use)
            for address in going:
                self._take_away(address)
        return [digest for _, digest in going]

    def _addresses(self) -> list[Address]:
        kinds = [path.name for path in self.folder.iterdir() if is_kind(path.name)]
        return [(kind, path.name) for kind in kinds for path in (self.folder / kind).iterdir() if path.is_dir()]

    def _take_away(self, address: Address) -> None:
        self._known.pop(address, None)
        shutil.rmtree(self.place_of(*address), ignore_errors=True)


def _kept(folder: Path) -> Kept:
    with contextlib.suppress(OSError):
        files = [path.lstat().st_size for path in folder.iterdir()]
        return Kept(sum(files), folder.stat().st_mtime)
    return Kept(0, time.time())


def _look(folder: Path) -> _Look:
    """The engines in a folder. Nothing but plain files that lie nowhere else is one."""
    seen = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            about = path.lstat()
            if is_engine_name(path.name) and stat.S_ISREG(about.st_mode) and about.st_nlink == 1 and about.st_size:
                seen.append((path.name, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(sorted(seen)[:MAX_FILES])


def _file_digest(path: Path) -> str:
    """The sha256; empty where it cannot be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
