"""Optimised graphs on disk: what a cold start loads in place of the model itself, and what was found not worth it.

    DATA/cache/optimised/DIGEST/KEY/entry.json        what it is, who may use it, or why there is none
                                    model.onnx        the graph as onnxruntime left it
                                    model.onnx.data   its weights, mapped rather than read

An entry appears by one rename, synced, and goes by one rename: half of one never lies at an address. Runs in the
gateway's process: `find`, `entry`, `tried` and `disown` deal with memory alone and never wait for the disk; the others
belong in a thread.
"""

import contextlib
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.core.durable import sync_file, sync_folder, write_durably
from appliance.workers.graph_key import GraphKey
from appliance.workers.spec import CachedGraph

GRAPH_FILES = ("model.onnx", "model.onnx.data")
_ENTRY = "entry.json"
_MOST_ENTRIES = 10_000
# How exact the order of last use is after a restart.
_TOUCH_S = 3600.0

Address = tuple[str, str]  # digest, key's word


class Entry(msgspec.Struct, frozen=True):
    """What entry.json says. `sizes` is empty and `refused` a reason where there is no graph."""

    key: GraphKey
    sizes: dict[str, int] = {}
    refused: str = ""
    original_s: float = 0.0
    cached_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        return sum(self.sizes.values())


class Kept(NamedTuple):
    """An entry in memory, with when it was last used (Unix time)."""

    entry: Entry
    used_s: float


def doomed(kept: Mapping[Address, Kept], *, budget_bytes: int, most_entries: int = _MOST_ENTRIES) -> list[Address]:
    """What must go so that the rest fits: the least recently used first, refusals, which take no room, only for
    their number."""
    going: list[Address] = []
    total_bytes, count = sum(item.entry.size_bytes for item in kept.values()), len(kept)
    for address, item in sorted(kept.items(), key=lambda pair: pair[1].used_s):
        if (total_bytes > budget_bytes and item.entry.size_bytes) or count > most_entries:
            going.append(address)
            total_bytes -= item.entry.size_bytes
            count -= 1
    return going


class GraphCache:
    """The entries under one folder. One process at a time; its methods may be called from any thread."""

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        self._folder = folder / "optimised"
        self._incoming = folder / "incoming"
        self.budget_bytes = budget_bytes
        self._kept: dict[Address, Kept] = {}
        self._lock = threading.Lock()  # held for a look at the dict, never for the disk
        self._disk = threading.RLock()

    def open(self, digests: Set[str]) -> None:
        """Reads what is there and removes what was cut short, what no artifact in `digests` needs, and what cannot be
        read. Raises OSError where the folder cannot be had."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        for folder in (self._folder, self._incoming):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._disk:
            for path in self._folder.glob("*/*"):
                digest, word = path.parent.name, path.name
                try:
                    entry = msgspec.json.decode((path / _ENTRY).read_bytes(), type=Entry)
                    used_s = (path / _ENTRY).stat().st_mtime
                except (OSError, msgspec.MsgspecError):
                    entry = None
                if entry is None or digest not in digests or entry.key.word != word:
                    self._take_away(path)
                else:
                    with self._lock:
                        self._kept[digest, word] = Kept(entry, used_s)
            self._make_room()

    def find(self, digest: str, key: GraphKey) -> CachedGraph | None:
        """The graph to load for this artifact on a box and runtime of this key, if there is one."""
        with self._lock:
            kept = self._kept.get((digest, key.word))
            if kept is None or kept.entry.refused or kept.entry.key != key:
                return None
            self._kept[digest, key.word] = Kept(kept.entry, time.time())
            return CachedGraph(str(self._folder / digest / key.word), kept.entry.sizes)

    def entry(self, digest: str, key: GraphKey) -> Entry | None:
        """What is known of this artifact's graph."""
        with self._lock:
            kept = self._kept.get((digest, key.word))
            return kept.entry if kept else None

    def tried(self, digest: str, key: GraphKey) -> bool:
        """Whether there is a graph, or it is known that there should be none."""
        with self._lock:
            return (digest, key.word) in self._kept

    def new_folder(self) -> Path:
        """A fresh folder on the same disk for a graph to be made in; place() or discard() it."""
        return Path(tempfile.mkdtemp(dir=self._incoming))

    def discard(self, made: Path) -> None:
        shutil.rmtree(made, ignore_errors=True)

    def place(self, digest: str, key: GraphKey, made: Path, *, original_s: float, cached_s: float) -> None:
        """Puts what was made in new_folder() at its address. Raises ValueError where it is not just a graph's files,
        OSError where the disk fails; nothing is kept then."""
        entry = Entry(key, _sizes(made), original_s=original_s, cached_s=cached_s)
        if entry.size_bytes > self.budget_bytes:
            raise ValueError(f"its {entry.size_bytes} bytes are more than all graphs may take together")
        self._put(digest, entry, made)

    def refuse(self, digest: str, key: GraphKey, reason: str) -> None:
        """Remembers that this artifact gains nothing, so that it is not tried again on such a box."""
        made = self.new_folder()
        try:
            self._put(digest, Entry(key, refused=reason), made)
        except OSError:
            self.discard(made)
            raise

    def _put(self, digest: str, entry: Entry, made: Path) -> None:
        for name in entry.sizes:
            sync_file(made / name)
        write_durably(made / _ENTRY, msgspec.json.encode(entry))
        target = self._folder / digest / entry.key.word
        with self._disk:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if target.exists():
                self._take_away(target)
            made.rename(target)
            sync_folder(target.parent)
            sync_folder(self._folder)
            with self._lock:
                self._kept[digest, entry.key.word] = Kept(entry, time.time())
            self._make_room()

    def disown(self, digest: str, key: GraphKey) -> None:
        """From now on there is no such graph; drop() then removes it."""
        with self._lock:
            self._kept.pop((digest, key.word), None)

    def drop(self, digest: str, key: GraphKey) -> None:
        """Removes a graph that was disowned, unless another has been made since."""
        with self._disk:
            if not self.tried(digest, key):
                self._take_away(self._folder / digest / key.word)

    def forget(self, digest: str) -> None:
        """The artifact is gone: so go its graphs, whoever made them."""
        with self._disk:
            for address in [address for address in self._snapshot() if address[0] == digest]:
                self._remove(address)

    def touch(self) -> None:
        """Writes down when entries were last used, where what is on the disk is old. Best effort."""
        for (digest, word), kept in self._snapshot().items():
            path = self._folder / digest / word / _ENTRY
            with contextlib.suppress(OSError):
                if kept.used_s - path.stat().st_mtime > _TOUCH_S:
                    os.utime(path, (kept.used_s, kept.used_s))

    def _snapshot(self) -> dict[Address, Kept]:
        with self._lock:
            return dict(self._kept)

    def _make_room(self) -> None:
        for address in doomed(self._snapshot(), budget_bytes=self.budget_bytes):
            self._remove(address)

    def _remove(self, address: Address) -> None:
        with self._lock:
            self._kept.pop(address, None)
        self._take_away(self._folder.joinpath(*address))

    def _take_away(self, path: Path) -> None:
        """By a rename first: a worker that has it open keeps what it mapped."""
        with contextlib.suppress(OSError):
            bin_ = self.new_folder()
            path.rename(bin_ / "gone")
            shutil.rmtree(bin_, ignore_errors=True)
            path.parent.rmdir()  # refused by the system while another entry is in it


def _sizes(made: Path) -> dict[str, int]:
    """The files of a graph and their sizes. Raises ValueError where anything else is there: what wrote them ran a
    stranger's model."""
    sizes: dict[str, int] = {}
    for item in made.iterdir():
        about = item.lstat()
        if item.name not in GRAPH_FILES or not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
            raise ValueError(f"something else than a graph was written: {item.name[:80]!r}")
        sizes[item.name] = about.st_size
    if GRAPH_FILES[0] not in sizes:
        raise ValueError("no graph was written")
    return sizes
