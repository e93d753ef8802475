"""One copy of a version on its way to this node: fetched, looked at in the sandbox as a deploy is, made a version here.

Runs in the gateway's event loop. What was fetched is kept in a folder until it is a version, so that a restart goes on
with it; what is refused here is remembered, for this release of Ingle.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import StagedArtifact
from appliance.core.durable import disk_faults, write_durably
from appliance.core.errors import NotFoundError, RefusedError
from appliance.core.models import ModelVersion
from appliance.core.release import VERSION
from appliance.workers.inspector import Inspector
from federation.fetching import Progress
from federation.landing import ARTIFACT_FOLDER
from federation.messages import Record
from federation.serving import Held
from federation.transfer import Transfers

KEPT_S = 7 * 24 * 3600.0  # what was fetched in part and not gone on with
_RECORD = "copy.json"
_REFUSED = ".refused"

CopyStep = Literal["waiting", "fetching", "checking", "done", "failed"]

_log = logging.getLogger("ingle.copies")


class Copying(msgspec.Struct, eq=False):
    """A copy that is being made. `reason` says why it failed; `refused`: it will fail again on this node."""

    model: ModelVersion
    step: CopyStep = "waiting"
    progress: Progress = Progress(0, 0, 0.0, {})
    reason: str = ""
    refused: bool = False
    warm_it: bool = False  # once it is here
    ended_s: float = 0.0  # time.monotonic()


class CopyFolders:
    """What lies below one folder: the fetches that are not done, by digest, and which artifacts were refused here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.refused: dict[str, str] = {}  # by digest, why

    def open(self) -> list[Record]:
        """Reads what there is, in a thread: what was being fetched when the node ended."""
        with disk_faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return list(self._left())

    def _left(self) -> Iterator[Record]:
        for path in self._folder.iterdir():
            if path.name.endswith(_REFUSED):
                release, _, why = path.read_text(errors="replace").partition("\n")
                if release == VERSION:
                    self.refused[path.name.removesuffix(_REFUSED)] = why
                else:
                    path.unlink()
            elif path.is_dir():
                try:
                    if time.time() - path.stat().st_mtime > KEPT_S:
                        raise ValueError("it is too old")
                    yield msgspec.json.decode((path / _RECORD).read_bytes(), type=Record)
                except (OSError, ValueError, msgspec.MsgspecError):
                    shutil.rmtree(path, ignore_errors=True)

    def begin(self, record: Record) -> Path:
        """The folder of a fetch, which says what is fetched."""
        folder = self._folder / record.digest
        with disk_faults(self._folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(folder / _RECORD, msgspec.json.encode(record))
        return folder

    def size_bytes(self, digest: str) -> int:
        """What a fetch has on the disk already."""
        try:
            return sum(path.stat().st_blocks * 512 for path in (self._folder / digest).rglob("*"))
        except OSError:
            return 0

    def drop(self, digest: str) -> None:
        shutil.rmtree(self._folder / digest, ignore_errors=True)

    def refuse(self, digest: str, why: str) -> None:
        """Remembers it."""
        self.refused[digest] = why
        with disk_faults(self._folder):
            write_durably(self._folder / (digest + _REFUSED), f"{VERSION}\n{why}".encode())


class Copier:
    """copy() makes one; begun ones share nothing but the disk."""

    def __init__(self, catalogue: Catalogue, inspector: Inspector, transfers: Transfers, folders: CopyFolders) -> None:
        self._catalogue = catalogue
        self._inspector = inspector
        self._transfers = transfers
        self._folders = folders

    async def copy(self, copying: Copying, record: Record, holders: Callable[[], Collection[str]]) -> ModelVersion:
        """The version, on this node's disk. Raises RefusedError where it is not fit to run here, ConflictError where
        other content lies here under that version, UnavailableError where no peer gives it or the disk is full."""
        digest = record.digest
        if (why := self._folders.refused.get(digest)) is not None:
            raise RefusedError(why)
        staged = await asyncio.to_thread(self._here, record)
        if staged is None:
            copying.step = "fetching"
            folder = await asyncio.to_thread(self._folders.begin, record)

            def on_progress(progress: Progress) -> None:
                copying.progress = progress

            files = await self._transfers.fetch(
                digest, record.size_bytes, folder, holders=holders, on_progress=on_progress
            )
            staged = StagedArtifact(folder / ARTIFACT_FOLDER, files, digest, record.size_bytes, None)
        try:
            copying.step = "checking"
            inspection = await self._inspect(staged, record)
            model = await asyncio.to_thread(self._catalogue.publish_copy, copying.model, staged, inspection)
        finally:
            self._transfers.forget(digest)
        await asyncio.to_thread(self._folders.drop, digest)
        copying.step = "done"
        return model

    async def _inspect(self, staged: StagedArtifact, record: Record) -> Inspection:
        try:
            return await self._inspector.inspect(str(staged.folder), record.manifest)
        except RefusedError as error:
            await asyncio.to_thread(self._folders.refuse, record.digest, error.sentence)
            await asyncio.to_thread(self._folders.drop, record.digest)
            raise

    def _here(self, record: Record) -> StagedArtifact | None:
        """The artifact, where another version on this node has it."""
        with suppress(NotFoundError):
            files = self._catalogue.files(record.digest)
            if self._catalogue.has(record.digest, files):
                folder = self._catalogue.artifact_folder(record.digest)
                return StagedArtifact(folder, files, record.digest, record.size_bytes, None)
        return None


def held_in(catalogue: Catalogue) -> Callable[[str], Held | None]:
    """What peers may be given: the artifacts that versions on this node have."""

    def held(digest: str) -> Held | None:
        try:
            return Held(catalogue.artifact_folder(digest), catalogue.files(digest))
        except NotFoundError:
            return None

    return held
