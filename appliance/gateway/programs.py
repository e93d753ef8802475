"""The signed one files of the mesh: peers may have this node's, and this node fetches one of theirs for `ingle update`.

Runs in the gateway's event loop. What is fetched is a file that the key which this program trusts has signed, and stays
a file: what becomes of it, the command line decides (cli/update.py). Knows neither versions that are wanted nor trials.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from appliance.core.digests import file_digest, folder_digest
from appliance.core.errors import (
    ConflictError,
    IngleError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from appliance.core.release import Build
from appliance.core.trial import read_trial
from appliance.gateway.answers import ProgramDescription, ProgramFetch
from federation.fetching import Progress
from federation.landing import ARTIFACT_FOLDER
from federation.messages import Program
from federation.peer import Peer
from federation.serving import Held
from federation.transfer import Transfers

if TYPE_CHECKING:
    from appliance.security.releases import Statement

FOLDER = "updates"  # `program` is where the one file may be unpacked (build/stub.c)
LOST_S = 10.0  # without a peer in reach that has the file, until a fetch is given up
KEPT_S = 7 * 24 * 3600.0  # what was fetched and not made use of
LOOK_S = 1.0
GIVING = ("alive", "suspect")

_log = logging.getLogger("ingle.update")


class ProgramsMesh(Protocol):
    """What is asked of federation.mesh.Mesh."""

    def peers(self) -> Sequence[Peer]: ...
    def set_program(self, program: Program | None) -> None: ...


class Programs:
    """start() once the mesh is up. `file` is the one file that this node runs from, empty for none; `build` what is in
    it."""

    def __init__(self, mesh: ProgramsMesh, transfers: Transfers, data_dir: Path, file: str, build: Build) -> None:
        self._mesh = mesh
        self._transfers = transfers
        self._data_dir = data_dir
        self._file = file
        self._build = build
        self._own: Program | None = None
        self._fetch: ProgramFetch | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reached_s = 0.0  # when a peer that has the file was in reach last, on time.monotonic()'s clock

    def start(self) -> None:
        """Has peers told what this node runs from."""
        self._tasks["own"] = asyncio.get_running_loop().create_task(self._tell_own())

    def stop(self) -> None:
        """What was fetched in part stays."""
        for task in self._tasks.values():
            task.cancel()

    # This node's.

    async def _tell_own(self) -> None:
        # While a version is on trial, the file is not what runs.
        while await asyncio.to_thread(read_trial, self._data_dir) is not None:  # noqa: ASYNC110 - others end it
            await asyncio.sleep(LOOK_S)
        found = await asyncio.to_thread(find_program, Path(self._file)) if self._file else None
        own = found[0].digest if found else ""
        await asyncio.to_thread(_tidy, self._data_dir / FOLDER, own)
        if found is not None:
            self._own = found[0]
            self._transfers.give(*found[1])
            self._mesh.set_program(found[0])

    def own(self) -> ProgramDescription | None:
        """What peers may have of this node."""
        return None if self._own is None else self.described(self._own)

    # Peers'.

    def described(self, program: Program) -> ProgramDescription:
        """What a node says that it runs from, as far as that is proved."""
        told = ProgramDescription(digest=program.digest, size_bytes=program.size_bytes)
        try:
            statement = _read(program.statement, program.signature, self._build.update_key)
        except RefusedError as error:
            told.fault = error.sentence
        else:
            told.version, told.built_s, told.runtime = statement.version, statement.built_s, statement.runtime
        return told

    def fetched(self) -> ProgramFetch:
        """How far the last fetch is. Raises NotFoundError where there was none since the node's start."""
        if self._fetch is None:
            raise NotFoundError("no program of a peer was asked for since this node started")
        return self._fetch

    def begin(self, name: str) -> ProgramFetch:
        """Fetches what a peer, by its name or id, runs from. Raises NotFoundError, UnavailableError, RefusedError, or
        ConflictError where another is being fetched."""
        peer = self._peer(name)
        program = peer.hello.program
        if program is None:
            raise NotFoundError(
                f"no one file can be had of {peer.name}: it runs Ingle as an installed Python package, or from a file "
                "that nobody signed"
            )
        try:
            statement = _read(program.statement, program.signature, self._build.update_key)
        except RefusedError as error:
            raise RefusedError(f"the one file of {peer.name} {error.sentence}") from None
        task = self._tasks.get("fetch")
        if self._fetch is not None and task is not None and not task.done():
            if self._fetch.digest != program.digest:
                raise ConflictError(f"the one file of {self._fetch.node} is being fetched: ask again when it is here")
            return self._fetch
        self._fetch = ProgramFetch(peer.name, statement.version, program.digest, program.size_bytes)
        self._tasks["fetch"] = asyncio.get_running_loop().create_task(self._run(self._fetch, program, statement))
        return self._fetch

    def _peer(self, name: str) -> Peer:
        peers = [peer for peer in self._mesh.peers() if not peer.outside]
        for peer in peers:
            if name in (peer.name, peer.node_id):
                if peer.standing not in GIVING:
                    raise UnavailableError(f"nothing can be had now of {peer.name}, which is {peer.standing}")
                return peer
        known = ", ".join(sorted(peer.name for peer in peers)) or "no other"
        raise NotFoundError(f"this node knows no peer '{name[:100]}'; it knows {known}")

    async def _run(self, fetch: ProgramFetch, program: Program, statement: "Statement") -> None:
        folder = self._data_dir / FOLDER / program.digest

        def on_progress(progress: Progress) -> None:
            fetch.done_bytes, fetch.bytes_per_s = progress.done_bytes, progress.bytes_per_s

        self._reached_s = time.monotonic()
        try:
            await asyncio.to_thread(_tidy, folder.parent, "", only=program.digest)
            files = await self._transfers.fetch(
                program.digest,
                program.size_bytes,
                folder,
                holders=lambda: self._holders(fetch),
                on_progress=on_progress,
            )
            fetch.step = "checking"
            file = folder / ARTIFACT_FOLDER / next(iter(files))
            await asyncio.to_thread(_check, file, fetch.node, statement, self._build.update_key)
            fetch.step, fetch.file = "done", str(file)
            _log.info("the one file of %s, %s, is here: %s", fetch.node, fetch.version, file)
        except IngleError as error:
            fetch.step, fetch.code, fetch.reason = "failed", error.code, error.sentence
            _log.warning("the one file of %s was not fetched: %s", fetch.node, error.sentence)
        except Exception:
            fetch.step, fetch.code, fetch.reason = "failed", "internal", "the node failed on it, and has logged why"
            _log.exception("a fault of ours in fetching the one file of %s", fetch.node)
        finally:
            self._transfers.forget(program.digest)

    def _holders(self, fetch: ProgramFetch) -> list[str]:
        """Raises UnavailableError where there has been none for long."""
        holders = [
            peer.node_id
            for peer in self._mesh.peers()
            if peer.standing in GIVING and peer.hello.program is not None and peer.hello.program.digest == fetch.digest
        ]
        now_s = time.monotonic()
        if holders:
            self._reached_s = now_s
        elif now_s - self._reached_s > LOST_S:
            raise UnavailableError(
                f"the node {fetch.node} went out of reach before its one file was here, and no other has it: what "
                "came is kept, and the next try goes on with it"
            )
        return holders


def find_program(file: Path) -> tuple[Program, tuple[str, Held]] | None:
    """What peers are told of this one file, and the artifact that it is, by digest; None where nobody signed it or it
    cannot be read. Reads all of it."""
    from appliance.security.releases import find_signed

    try:
        signed = find_signed(file)
        if signed is None:
            return None
        files = {file.name: file_digest(file)}
        size_bytes = file.stat().st_size
    except (OSError, RefusedError) as error:
        _log.warning("peers cannot have this node's one file: %s", error)
        return None
    digest = folder_digest(files)
    return Program(digest, size_bytes, signed.statement, signed.signature), (digest, Held(file.parent, files))


@lru_cache(maxsize=256)
def _read(statement: bytes, signature: bytes, update_key: str) -> "Statement":
    from appliance.security.releases import read_signed

    return read_signed(statement, signature, update_key)


def _check(file: Path, node: str, statement: "Statement", update_key: str) -> None:
    """Raises RefusedError where what came is not what its giver told of; it is not kept then."""
    from appliance.security.releases import verified

    try:
        if verified(file, update_key) != statement:
            raise RefusedError(f"the node {node} gave another program than it told of")
    except RefusedError:
        shutil.rmtree(file.parents[1], ignore_errors=True)
        raise


def _tidy(folder: Path, gone: str, *, only: str = "") -> None:
    """Removes what is of no use any more: `gone`, what is old, and where `only` is given all others."""
    for path in folder.iterdir() if folder.is_dir() else ():
        is_old = time.time() - path.stat().st_mtime > KEPT_S
        if path.name == gone or (path.name != only if only else is_old):
            shutil.rmtree(path, ignore_errors=True)
