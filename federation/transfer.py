"""Fetches artifacts from peers and gives them to peers: what runs on this node's streams for copies.

Runs in the gateway's event loop. Knows digests, files and node ids; not what a model is, nor who ought to have a copy.
"""

import itertools
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from appliance.core.requests import Buffer
from federation.credible import credible_fetch, credible_have
from federation.fetching import Fetching, Progress
from federation.landing import ARTIFACT_FOLDER
from federation.messages import Chunk, Fetch, Have, Head, NoChunk
from federation.serving import Begun, Held, Send, Server

MAX_HEARD = 1024  # fetches of others that are remembered
HEARD_S = 10.0


class Transfers:
    """One for the node. `held` finds artifacts that lie here (called in threads); `peers` says which nodes are alive.

    on_copy() is fed with what comes on the streams for copies; `send` is the mesh's send_copy(). `busy_share`: of the
    box's processors, lately.
    """

    def __init__(
        self,
        send: Send,
        held: Callable[[str], Held | None],
        peers: Callable[[], Collection[str]],
        busy_share: Callable[[], float],
    ) -> None:
        self._send = send
        self._busy_share = busy_share
        self._peers = peers
        self._fetches: dict[str, Fetching] = {}
        self._numbers = itertools.count(1)
        self._given: dict[str, Held] = {}
        self._server = Server(send, lambda digest: self._given.get(digest) or held(digest), self._begun)
        self._heard: dict[tuple[str, str], tuple[float, Have]] = {}

    def give(self, digest: str, held: Held) -> None:
        """Peers are given this artifact too, from now on."""
        self._given[digest] = held

    def take_back(self, digest: str) -> None:
        """They are given it no more."""
        self._given.pop(digest, None)

    def on_copy(self, node_id: str, head: Head, body: list[Buffer]) -> None:
        """What a peer said on its stream for copies."""
        match head:
            case Fetch() if credible_fetch(head):
                self._server.asked(node_id, head)
            case Chunk():
                self._came(node_id, head.number, body[0] if body else b"")
            case NoChunk():
                for fetch in self._fetches.values():
                    fetch.refused(node_id, head)
            case Have() if credible_have(head):
                self._hear(node_id, head)
            case _:
                pass

    def _came(self, node_id: str, number: int, body: Buffer) -> None:
        # Numbers are unique over all fetches of this node.
        for fetch in list(self._fetches.values()):
            fetch.came(node_id, number, body)

    def _hear(self, node_id: str, head: Have) -> None:
        key = (head.digest, node_id)
        self._heard.pop(key, None)
        if not head.ended:
            while len(self._heard) >= MAX_HEARD:
                del self._heard[next(iter(self._heard))]
            self._heard[key] = (time.monotonic(), msgspec.structs.replace(head, pieces=b""))
        if fetch := self._fetches.get(head.digest):
            fetch.hear(node_id, head)

    def heard(self) -> list[tuple[str, Have]]:
        """What peers fetch just now: node id and how far it is."""
        now_s = time.monotonic()
        self._heard = {key: told for key, told in self._heard.items() if now_s - told[0] < HEARD_S}
        return [(node_id, have) for (_, node_id), (_, have) in self._heard.items()]

    def lost(self, node_id: str) -> None:
        """A peer's link has ended."""
        self._server.lost(node_id)
        for fetch in list(self._fetches.values()):
            fetch.lost(node_id)

    async def fetch(
        self,
        digest: str,
        size_bytes: int,
        folder: Path,
        *,
        holders: Callable[[], Collection[str]],
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> dict[str, str]:
        """Has the artifact complete, verified and synced in `folder`/artifact, and returns its files (relative path to
        sha256). Until forget() peers are given it from there.

        `folder` may hold what an earlier fetch left. `holders` says which peers that are alive have it now. Raises
        RefusedError where all of them send something else, UnavailableError where none gives anything for long or the
        disk has no room; what came stays in the folder then. One fetch of a digest at a time.
        """
        assert digest not in self._fetches
        fetch = Fetching(self._send, self._numbers, digest, size_bytes, folder, on_progress, self._busy_share)
        self._fetches[digest] = fetch
        try:
            return await fetch.run(holders, self._peers)
        except BaseException:
            self.forget(digest)
            raise

    def forget(self, digest: str) -> None:
        """The folder of a fetch is somebody else's from now on."""
        fetch = self._fetches.pop(digest, None)
        if fetch is not None:
            fetch.end()

    def stop(self) -> None:
        """Peers get nothing more."""
        self._server.stop()

    def _begun(self, digest: str) -> Begun | None:
        fetch = self._fetches.get(digest)
        if fetch is None or fetch.download.list is None:
            return None
        return Begun(fetch.folder / ARTIFACT_FOLDER, fetch.download.list, fetch.download.can_give)
