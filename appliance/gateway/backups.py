"""Backups of a running node, and putting one in the place of all that the node has.

Runs in threads of the gateway. A backup holds the catalogue, the keys' records and every artifact; what is a box's own
(its id, its admin key, its TLS key, its settings) is not in it. Knows no protocol.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from appliance.catalogue.backup_file import (
    FORM,
    Contents,
    FileMark,
    Source,
    artifact_file,
    backup_size_bytes,
    read_backup,
    write_backup,
)
from appliance.catalogue.catalogue import CATALOGUE_FILE, Catalogue
from appliance.catalogue.staging import StagedArtifact
from appliance.catalogue.store import Store
from appliance.core.database import drop_snapshots
from appliance.core.digests import file_digest, folder_digest
from appliance.core.durable import disk_faults, sync_file, sync_folder
from appliance.core.errors import BusyError, RefusedError, TooLargeError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.release import VERSION
from appliance.core.swap import begin_swap, decide_swap, drop_swap, finish_swap
from appliance.security.keys import KEYS_FILE, KeyRing

MAX_AT_ONCE = 2
KEEP_FREE_BYTES = 64 * 2**20
_DATABASES = (CATALOGUE_FILE, KEYS_FILE)


class Backup(NamedTuple):
    """A backup about to be written: so many bytes, piece by piece."""

    size_bytes: int
    pieces: Iterator[bytes]


class Restored(NamedTuple):
    """What a restore did. `gone`: versions that are no more, or are not what they were."""

    contents: Contents
    gone: list[ModelVersion]


def _unheard(_brought: Sequence[tuple[ModelName, str]]) -> None:
    """The node is in no mesh."""


class Backups:
    """One restore at a time; calls go on beside it."""

    def __init__(self, catalogue: Catalogue, keys: KeyRing) -> None:
        self._catalogue = catalogue
        self._keys = keys
        self._restoring = threading.Lock()
        self._taking = threading.BoundedSemaphore(MAX_AT_ONCE)

    @contextmanager
    def taken(self, node_name: str) -> Iterator[Backup]:
        """A backup of this moment; within, nothing that it names is removed. Raises UnavailableError where the disk has
        no room for a copy of the databases, BusyError beyond MAX_AT_ONCE."""
        if not self._taking.acquire(blocking=False):
            raise BusyError(f"{MAX_AT_ONCE} backups are being taken: wait for the end of one", retry_after_s=10.0)
        try:
            yield from self._taken(node_name)
        finally:
            self._taking.release()

    def _taken(self, node_name: str) -> Iterator[Backup]:
        incoming = self._catalogue.new_incoming()
        try:
            with self._catalogue.kept(), disk_faults(incoming):
                sources = {name: incoming / name for name in _DATABASES}
                self._catalogue.copy_to(sources[CATALOGUE_FILE])
                self._keys.copy_to(sources[KEYS_FILE])
                files = {name: FileMark(path.stat().st_size, file_digest(path)) for name, path in sources.items()}
                for version in _by_digest(self._catalogue):
                    for path, sha256 in self._catalogue.files(version.digest).items():
                        name, source = artifact_file(version.digest, path), Path(version.folder) / path
                        files[name] = FileMark(source.stat().st_size, sha256)
                        sources[name] = source
                contents = Contents(FORM, VERSION, node_name, time.time(), files)
                yield Backup(backup_size_bytes(contents), write_backup(contents, sources))
        finally:
            self._catalogue.discard(incoming)

    def restore(
        self, source: Source, *, on_checked: Callable[[Sequence[tuple[ModelName, str]]], None] = _unheard
    ) -> Restored:
        """Puts what a backup holds in the place of all models, versions, aliases and keys; this box's admin key stays
        good. A kill at any moment leaves all of the old or all of the new. `on_checked` is told, in this thread, which
        models' artifacts, by digest, are about to be here.

        Raises RefusedError where it is no whole and unchanged backup, TooLargeError where the disk has no room,
        BusyError where another restore runs; nothing is changed then.
        """
        if not self._restoring.acquire(blocking=False):
            raise BusyError("another restore runs on this node: wait for its end", retry_after_s=10.0)
        incoming = self._catalogue.new_incoming()
        try:
            with self._catalogue.kept(), disk_faults(self._catalogue.folder):
                prepared = begin_swap(self._catalogue.folder)
                taken = _Taken(self._catalogue, incoming, prepared)
                contents = read_backup(source, taken.accept, taken.place)
                brought = _check(contents, prepared)
                self._keys.carry_over(prepared)
                drop_snapshots(prepared)  # of a backup in an older form: the backup itself is one
                for staged in taken.staged():
                    self._catalogue.place(staged)
                on_checked(brought)
                gone = self._catalogue.exchange(partial(self._keys.exchange, self._swap))
            return Restored(contents, gone)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
            drop_swap(self._catalogue.folder)
            self._restoring.release()

    def _swap(self) -> None:
        decide_swap(self._catalogue.folder)
        finish_swap(self._catalogue.folder)


class _Taken:
    """Where the files of a backup go while it is read: beside what there is, and never in its place."""

    def __init__(self, catalogue: Catalogue, incoming: Path, prepared: Path) -> None:
        self._catalogue = catalogue
        self._incoming = incoming
        self._prepared = prepared
        self._missing: dict[str, dict[str, FileMark]] = {}
        self._targets: dict[str, Path] = {}

    def accept(self, contents: Contents) -> None:
        for name in _DATABASES:
            if name not in contents.files:
                raise RefusedError(f"the backup has no {name}: it is not a node's")
            self._targets[name] = self._prepared / name
        for digest, files in contents.artifacts().items():
            sha256 = {path: mark.sha256 for path, mark in files.items()}
            if folder_digest(sha256) != digest:
                raise RefusedError(f"the artifact {digest[:12]} in the backup does not have the files its name says")
            if self._catalogue.has(digest, sha256):
                continue
            self._missing[digest] = files
            for path in files:
                self._targets[artifact_file(digest, path)] = self._incoming / digest / path
        wanted_bytes = sum(contents.files[name].size_bytes for name in self._targets)
        free_bytes = shutil.disk_usage(self._prepared).free - KEEP_FREE_BYTES
        if wanted_bytes > free_bytes:
            raise TooLargeError(
                f"the backup needs {wanted_bytes} bytes more than what is here, and this node's disk can give "
                f"{max(0, free_bytes)}: make room and try again"
            )

    def place(self, name: str) -> BinaryIO | None:
        target = self._targets.get(name)
        if target is None:
            return None
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return target.open("xb")

    def staged(self) -> Iterator[StagedArtifact]:
        """The artifacts that are to be put in place, on the disk."""
        for digest, marks in self._missing.items():
            folder = self._incoming / digest
            for path in sorted(folder.rglob("*")):
                if path.is_dir():
                    sync_folder(path)
                else:
                    path.chmod(0o400)
                    sync_file(path)
            sync_folder(folder)
            files = {path: mark.sha256 for path, mark in marks.items()}
            yield StagedArtifact(folder, files, digest, sum(mark.size_bytes for mark in marks.values()), None)


def _by_digest(catalogue: Catalogue) -> list[ModelVersion]:
    """One version for each artifact."""
    return list({version.digest: version for entry in catalogue.held() for version in entry.versions}.values())


def _check(contents: Contents, prepared: Path) -> list[tuple[ModelName, str]]:
    """Opens the catalogue that was brought, which brings it to this version's schema; what is in it. Raises
    RefusedError where it cannot be read, or names what the backup does not hold."""
    store = Store(prepared / CATALOGUE_FILE, prepared)
    try:
        brought = [(entry.name, version.digest) for entry in store.entries() for version in entry.versions]
        missing = store.artifacts() - contents.artifacts().keys()
    finally:
        store.close()
    if missing:
        raise RefusedError(f"the backup does not hold the artifact {min(missing)[:12]}, which a version in it has")
    return brought
