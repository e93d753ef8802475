"""A switch with a clock of its own, where every node has a wire of a rate: for what download.py decides."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator

from federation.artifact_list import SMALL_PIECE_BYTES, ArtifactList, FileMark
from federation.download import Ask, Download, ListCame, PieceCame
from federation.messages import Fetch

LATENCY_S = 0.0002
HAVE_S = 0.25
MBIT = 125_000


def artifact(size_bytes: int) -> ArtifactList:
    """A list without files: here nobody compares bytes."""
    marks = "0" * 32 * -(-size_bytes // SMALL_PIECE_BYTES)
    return ArtifactList(SMALL_PIECE_BYTES, {"model.onnx": FileMark("0" * 64, size_bytes, marks)})


class Wire:
    """One direction of one node's wire: what is put on it leaves after all that was before. `waits_s`: what a small
    message would have waited, at each time that something was put on."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.free_s = 0.0
        self.sent_bytes = 0
        self.waits_s: list[float] = []

    def put(self, now_s: float, size_bytes: int) -> float:
        self.waits_s.append(max(0.0, self.free_s - now_s))
        self.free_s = max(self.free_s, now_s) + size_bytes / self.bytes_per_s
        self.sent_bytes += size_bytes
        return self.free_s


class Switch:
    """`holders` hold the artifact, `fetchers` fetch it. run() returns when they are done, or at `until_s`."""

    def __init__(self, listed: ArtifactList, holders: str, fetchers: str, *, mbit: float = 100, seed: int = 1) -> None:
        self.listed = listed
        self.now_s = 0.0
        self.up = {name: Wire(mbit * MBIT) for name in holders + fetchers}
        self.down = {name: Wire(mbit * MBIT) for name in holders + fetchers}
        self.holders = set(holders)
        self.dead: set[str] = set()
        self.liars: set[str] = set()  # whose pieces do not fit
        self.downloads = {name: Download("d", random.Random(f"{seed}{name}"), itertools.count(1)) for name in fetchers}
        self.done_s: dict[str, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order: Iterator[int] = itertools.count()
        for name, download in self.downloads.items():
            for holder in holders:
                download.holds(holder)
            self.at(0.0, lambda name=name: self._ask(name))  # type: ignore[misc]
            self.at(HAVE_S, lambda name=name: self._tell(name))  # type: ignore[misc]

    def at(self, time_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), act))

    def kill(self, name: str) -> None:
        self.dead.add(name)
        self.holders.discard(name)
        for download in self.downloads.values():
            download.lost(name)

    def run(self, until_s: float = 600.0) -> None:
        while self._events and self.now_s < until_s:
            if all(name in self.done_s or name in self.dead for name in self.downloads):
                return
            self.now_s, _, act = heapq.heappop(self._events)
            act()

    def _ask(self, name: str) -> None:
        if name in self.dead:
            return
        for ask in self.downloads[name].poll(self.now_s):
            self.at(self.now_s + LATENCY_S, lambda ask=ask: self._asked(name, ask))  # type: ignore[misc]

    def _asked(self, name: str, ask: Ask) -> None:
        if ask.node_id in self.dead:
            return
        fetch: Fetch = ask.fetch
        size_bytes = fetch.size_bytes or 1000
        left_s = self.up[ask.node_id].put(self.now_s, size_bytes)
        self.at(left_s + LATENCY_S, lambda: self._on_the_way(name, ask, size_bytes))

    def _on_the_way(self, name: str, ask: Ask, size_bytes: int) -> None:
        if ask.node_id in self.dead or name in self.dead:
            return
        # Both wires run at once: the second holds it up only where others come at the same time.
        wire = self.down[name]
        there_s = max(self.now_s, wire.put(self.now_s - size_bytes / wire.bytes_per_s, size_bytes))
        self.at(there_s, lambda: self._came(name, ask, size_bytes))

    def _came(self, name: str, ask: Ask, size_bytes: int) -> None:
        download = self.downloads[name]
        if ask.node_id in self.dead or name in self.dead:
            return
        came = download.chunk(self.now_s, ask.node_id, ask.fetch.number, bytes(size_bytes))
        if isinstance(came, ListCame):
            download.adopt(self.now_s, self.listed, ask.node_id, set())
        elif isinstance(came, PieceCame):
            download.checked(self.now_s, came, fits=came.node_id not in self.liars)
        if download.complete and name not in self.done_s:
            self.done_s[name] = self.now_s
        self._ask(name)

    def _tell(self, name: str) -> None:
        if name in self.dead:
            return
        mine = self.downloads[name]
        for other, download in self.downloads.items():
            if other != name and other not in self.dead:
                download.has_some(name, mine.list_digest, mine.bitmap())
        for holder in self.holders:
            mine.holds(holder)
        self._ask(name)
        self.at(self.now_s + HAVE_S, lambda: self._tell(name))
