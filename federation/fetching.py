"""One artifact on its way here: performs what download.py decides, and tells others what they can have of it already.

Runs in the gateway's event loop; what reads and writes is landing.py's, in threads.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from appliance.core.durable import disk_faults
from appliance.core.errors import IngleError, RefusedError, UnavailableError
from appliance.core.requests import Buffer
from federation.artifact_list import ArtifactList, read_list
from federation.download import Ask, Download, ListCame, PieceCame
from federation.landing import forget_list, keep, prepare, read_kept_list, seal
from federation.messages import Have, NoChunk
from federation.serving import Send
from federation.window import least_block_bytes

TICK_S = 0.05
HAVE_S = 0.25  # between two words to those who fetch it too
PROGRESS_S = 1.0  # and to those who hold it
RATE_S = 2.0  # over which the rate is told
PATIENCE_S = 60.0  # without a byte


_log = logging.getLogger("ingle.copies")


class Progress(NamedTuple):
    """How far a fetch is. `sources`: bytes that came, by node id."""

    done_bytes: int
    size_bytes: int
    bytes_per_s: float
    sources: dict[str, int]


class Fetching:
    """run() it once; came(), refused(), hear() and lost() bring what peers say meanwhile and after."""

    def __init__(
        self,
        send: Send,
        numbers: Iterator[int],
        digest: str,
        size_bytes: int,
        folder: Path,
        on_progress: Callable[[Progress], None],
        busy_share: Callable[[], float],
    ) -> None:
        self.folder = folder
        # Which pieces are asked for first must differ between nodes, not be hard to guess.
        self.download = Download(digest, random.Random(), numbers)  # noqa: S311
        self._send = send
        self._digest = digest
        self._size_bytes = size_bytes
        self._on_progress = on_progress
        self._busy_share = busy_share
        self._changed = asyncio.Event()
        self._lists: asyncio.Queue[ListCame] = asyncio.Queue()
        self._checks: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        self._blamed: set[str] = set()  # as was logged
        self._listeners: set[str] = set()  # who fetches it too
        self._told: dict[str, float] = {}  # who was told how far this is, and when
        self._moved_s = time.monotonic()
        self._rates: list[tuple[float, int]] = []
        self._bytes_per_s = 0.0

    # What came.

    def came(self, node_id: str, number: int, body: Buffer) -> None:
        came = self.download.chunk(time.monotonic(), node_id, number, body)
        match came:
            case ListCame():
                self._lists.put_nowait(came)
                self._changed.set()
            case PieceCame():
                self._moved_s = time.monotonic()
                task = asyncio.get_running_loop().create_task(self._check(came))
                self._checks.add(task)
                task.add_done_callback(self._checks.discard)
        self._send_asks(self.download.refill(time.monotonic(), node_id))

    def refused(self, node_id: str, head: NoChunk) -> None:
        self.download.refused(time.monotonic(), node_id, head.number, head.code)

    def hear(self, node_id: str, head: Have) -> None:
        if head.ended:
            self._listeners.discard(node_id)
            self.download.lost(node_id)
            return
        self._listeners.add(node_id)
        self.download.has_some(node_id, head.list_digest, head.pieces)

    def lost(self, node_id: str) -> None:
        self._listeners.discard(node_id)
        self.download.lost(node_id)

    async def _check(self, came: PieceCame) -> None:
        """Writes a piece where it fits its mark."""
        try:
            with disk_faults(self.folder):
                fits = await asyncio.to_thread(keep, self.folder, came.piece, came.content)
        except IngleError as error:
            self._fault = error
        else:
            self.download.checked(time.monotonic(), came, fits=fits)
        if self.download.complete or self.download.list is None or self._fault is not None:
            self._changed.set()

    # The fetch itself.

    async def run(self, holders: Callable[[], Collection[str]], peers: Callable[[], Collection[str]]) -> dict[str, str]:
        """See Transfers.fetch()."""
        await self._resume()
        for node_id in peers():
            self._tell(node_id)
        while True:
            self._meet(holders(), peers())
            await self._take_lists()
            if self._fault is not None:
                raise self._fault
            if self.download.complete and not self._checks:
                if files := await self._verified():
                    return files
                continue
            self.download.least_block_bytes = least_block_bytes(self._busy_share())
            self._send_asks(self.download.poll(time.monotonic()))
            self._tell_all()
            self._report()
            self._log_blame()
            self._check_patience(holders())
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):  # wait_for() of Python 3.11 may swallow the task's end
                    await self._changed.wait()
            self._changed.clear()

    def _meet(self, holders: Collection[str], alive: Collection[str]) -> None:
        for node_id in holders:
            self.download.holds(node_id)
        for node_id in self.download.sources:
            if node_id not in alive:
                self.download.lost(node_id)

    def _send_asks(self, asks: list[Ask]) -> None:
        full = set()
        for node_id, fetch in asks:
            if node_id not in full and not self._send(node_id, fetch, []):
                full.add(node_id)
                self.download.refused(time.monotonic(), node_id, fetch.number, "busy")

    async def _resume(self) -> None:
        """Goes on with what an earlier fetch left in the folder."""
        try:
            text = await asyncio.to_thread(read_kept_list, self.folder)
            listed = read_list(text, self._digest, self._size_bytes)
        except (OSError, RefusedError):
            return
        await self._adopt(listed, "")

    async def _take_lists(self) -> None:
        while not self._lists.empty():
            came = self._lists.get_nowait()
            if self.download.list is not None:
                continue
            try:
                listed = await asyncio.to_thread(read_list, came.text, self._digest, self._size_bytes)
            except RefusedError as error:
                self.download.ban(came.node_id, error.sentence)
                continue
            await self._adopt(listed, came.node_id)

    async def _adopt(self, listed: ArtifactList, node_id: str) -> None:
        # What is still being written is of another list.
        await asyncio.gather(*self._checks)
        with disk_faults(self.folder):
            there = await asyncio.to_thread(prepare, self.folder, listed)
        self._moved_s = time.monotonic()
        self.download.adopt(self._moved_s, listed, node_id, there)

    async def _verified(self) -> dict[str, str]:
        """The files, where the whole is what it should be; else none, and the list is not believed any more."""
        assert self.download.list is not None
        files = {path: mark.sha256 for path, mark in self.download.list.files.items()}
        with disk_faults(self.folder):
            wrong = await asyncio.to_thread(seal, self.folder, files)
        if not wrong:
            self._log_blame()
            self._report()
            return files
        self.download.distrusted(f"{wrong} came as its list says, and is not what the artifact has")
        await asyncio.to_thread(forget_list, self.folder)
        return {}

    def _log_blame(self) -> None:
        for node_id, why in self.download.banned.items():
            if node_id not in self._blamed:
                self._blamed.add(node_id)
                _log.warning("node %s is not asked for %s again: %s", node_id[:12], self._digest[:12], why)
        self._blamed &= self.download.banned.keys()

    def _check_patience(self, holders: Collection[str]) -> None:
        banned = self.download.banned
        if banned and not self.download.sources and all(node_id in banned for node_id in holders):
            raise RefusedError(
                f"no peer gives the artifact {self._digest[:12]} as it is: {next(iter(banned.values()))}"
            )
        if time.monotonic() - self._moved_s > PATIENCE_S:
            raise UnavailableError(
                f"nothing of the artifact {self._digest[:12]} came for {PATIENCE_S:.0f} s: {len(holders)} peers have it"
            )

    # What others are told.

    def _report(self) -> None:
        now_s, done_bytes = time.monotonic(), self.download.done_bytes
        self._rates = [(at_s, done) for at_s, done in self._rates if now_s - at_s < RATE_S]
        self._rates.append((now_s, done_bytes))
        since_s, done = self._rates[0]
        self._bytes_per_s = (done_bytes - done) / (now_s - since_s) if now_s > since_s else 0.0
        self._on_progress(Progress(done_bytes, self._size_bytes, self._bytes_per_s, self.download.came_from()))

    def _tell_all(self) -> None:
        now_s = time.monotonic()
        for node_id in {*self._listeners, *self.download.sources}:
            every_s = HAVE_S if node_id in self._listeners else PROGRESS_S
            if now_s - self._told.get(node_id, 0.0) >= every_s:
                self._tell(node_id)

    def _tell(self, node_id: str, *, ended: bool = False) -> None:
        self._told[node_id] = time.monotonic()
        download = self.download
        told = Have(
            self._digest, download.list_digest, download.bitmap(), download.done_bytes, self._bytes_per_s, ended
        )
        self._send(node_id, told, [])

    def end(self) -> None:
        """Tells everyone that nothing more comes of it here."""
        for node_id in list(self._told):
            self._tell(node_id, ended=True)
        for task in self._checks:
            task.cancel()
