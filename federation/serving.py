"""Gives peers the parts of artifacts that they ask for: read in a thread, one peer after another, bounded for each.

Runs in the gateway's event loop. What lies here, and where, it asks of whoever keeps it; it gives nothing else, and
only files that an artifact's own list names.
"""

import asyncio
import os
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.core.errors import BadInputError, IngleError, NotFoundError
from appliance.core.requests import Buffer
from federation.artifact_list import LARGE_PIECE_BYTES, MAX_LIST_BYTES, ArtifactList, make_list
from federation.messages import Chunk, Fetch, Head, NoChunk

MAX_WAITING = 256  # of one peer; a window of blocks is half of that
SPAN_BYTES = 256 * 2**10  # read at once: whoever asks for a block asks for the next one soon
MAX_SPANS = 32  # kept in memory
MAX_LISTS = 8
RETRY_S = 0.01  # where a link takes no more for the moment
PATIENCE_S = 10.0  # with such a link; by then its peer asks elsewhere

Send = Callable[[str, Head, list[Buffer]], bool]


class Held(NamedTuple):
    """An artifact that lies here whole. `files`: relative path to sha256."""

    folder: Path
    files: Mapping[str, str]


class Begun(NamedTuple):
    """One that is being fetched: `can_give` says which parts (file, offset, size in bytes) are there."""

    folder: Path
    listed: ArtifactList
    can_give: Callable[[str, int, int], bool]


class _Client(msgspec.Struct, eq=False):
    """One peer that asked. `answer` is what its link did not take yet, since `stuck_s`."""

    waiting: deque[Fetch] = msgspec.field(default_factory=deque)
    answer: tuple[Head, list[Buffer]] | None = None
    stuck_s: float = 0.0


class Server:
    """`held` finds an artifact by its digest, in a thread; `begun` one that is on its way here, in the loop."""

    def __init__(self, send: Send, held: Callable[[str], Held | None], begun: Callable[[str], Begun | None]) -> None:
        self._send = send
        self._held = held
        self._begun = begun
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._spans: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._lists: OrderedDict[str, asyncio.Future[bytes]] = OrderedDict()
        self._work: asyncio.Task[None] | None = None
        self._asides: set[asyncio.Task[None]] = set()

    def asked(self, node_id: str, fetch: Fetch) -> None:
        """A peer asks for a part; it gets CHUNK or NO_CHUNK."""
        client = self._clients.get(node_id) or _Client()
        if len(client.waiting) >= MAX_WAITING or (not fetch.file and len(self._asides) >= MAX_LISTS):
            self._send(node_id, NoChunk(fetch.number, "busy", "too much is asked for already: wait for that"), [])
            return
        if not fetch.file:
            task = asyncio.get_running_loop().create_task(self._give_list(node_id, fetch))
            self._asides.add(task)
            task.add_done_callback(self._asides.discard)
            return
        client.waiting.append(fetch)
        self._clients[node_id] = client
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._give_all())

    def lost(self, node_id: str) -> None:
        """What a peer asked for is not given any more."""
        self._clients.pop(node_id, None)

    def stop(self) -> None:
        for task in (*self._asides, *([self._work] if self._work is not None else [])):
            task.cancel()

    async def _give_all(self) -> None:
        """One part for each peer in turn."""
        while self._clients:
            gave = False
            for node_id, client in list(self._clients.items()):
                gave |= await self._give_one(node_id, client)
                await asyncio.sleep(0)  # what was read before is given without waiting: calls have their turn between
            if not gave:
                await asyncio.sleep(RETRY_S)

    async def _give_one(self, node_id: str, client: _Client) -> bool:
        """False where the peer's link takes nothing now."""
        if client.answer is None:
            if not client.waiting:
                if self._clients.get(node_id) is client:
                    del self._clients[node_id]
                return True
            fetch = client.waiting.popleft()
            client.answer = await self._answer(self._part(fetch), fetch.number)
            client.stuck_s = time.monotonic()
        if self._clients.get(node_id) is not client:
            return True
        if self._send(node_id, *client.answer):
            client.answer = None
            return True
        if time.monotonic() - client.stuck_s > PATIENCE_S:
            del self._clients[node_id]
        return False

    async def _answer(self, part: Awaitable[Buffer], number: int) -> tuple[Head, list[Buffer]]:
        try:
            body = await part
        except IngleError as error:
            return NoChunk(number, error.code, error.sentence), []
        return Chunk(number, len(body)), [body]

    async def _part(self, fetch: Fetch) -> Buffer:
        """Raises BadInputError, NotFoundError."""
        if not 0 < fetch.size_bytes <= LARGE_PIECE_BYTES or not 0 <= fetch.offset < 2**62:
            raise BadInputError(f"{fetch.size_bytes} bytes are no part: expected 1 to {LARGE_PIECE_BYTES}")
        # A span lies within one piece: where the part is there, so is its span.
        begun = self._begun(fetch.digest)
        if begun is not None and not begun.can_give(fetch.file, fetch.offset, fetch.size_bytes):
            raise NotFoundError("this part is not here yet")
        folder = begun.folder if begun is not None else None
        first = fetch.offset // SPAN_BYTES
        last = (fetch.offset + fetch.size_bytes - 1) // SPAN_BYTES
        spans = [await self._span(fetch.digest, fetch.file, number, folder) for number in range(first, last + 1)]
        start = fetch.offset - first * SPAN_BYTES
        whole = memoryview(spans[0] if len(spans) == 1 else b"".join(spans))
        part = whole[start : start + fetch.size_bytes]
        if len(part) != fetch.size_bytes:
            raise NotFoundError(f"{fetch.file[:120]!a} has no such part")
        return part

    async def _span(self, digest: str, file: str, number: int, folder: Path | None) -> bytes:
        key = (digest, file, number)
        span = self._spans.get(key)
        if span is None:
            span = await asyncio.to_thread(self._read_span, digest, file, number, folder)
            while len(self._spans) >= MAX_SPANS:
                self._spans.popitem(last=False)
            self._spans[key] = span
        self._spans.move_to_end(key)
        return span

    def _read_span(self, digest: str, file: str, number: int, folder: Path | None) -> bytes:
        if folder is None:
            held = self._held(digest)
            if held is None or file not in held.files:
                raise NotFoundError(f"the artifact {digest[:12]!a} is not here, or has no such file")
            folder = held.folder
        return _read(folder / file, number * SPAN_BYTES, SPAN_BYTES)

    async def _give_list(self, node_id: str, fetch: Fetch) -> None:
        """Lets a list that takes long to make delay nobody."""
        head, body = await self._answer(self._list(fetch.digest), fetch.number)
        for _ in range(int(PATIENCE_S / RETRY_S)):
            if self._send(node_id, head, body):
                return
            await asyncio.sleep(RETRY_S)

    async def _list(self, digest: str) -> bytes:
        """The list as it is sent. Read once from the files, whoever asks for it meanwhile."""
        if begun := self._begun(digest):
            return begun.listed.encoded()
        making = self._lists.get(digest)
        if making is None:
            while len(self._lists) >= MAX_LISTS:
                self._lists.popitem(last=False)
            making = self._lists[digest] = asyncio.ensure_future(asyncio.to_thread(self._make_list, digest))
        try:
            return await asyncio.shield(making)
        except IngleError:
            self._lists.pop(digest, None)
            raise

    def _make_list(self, digest: str) -> bytes:
        held = self._held(digest)
        if held is None:
            raise NotFoundError(f"the artifact {digest[:12]!a} is not here")
        try:
            text = make_list(held.folder, dict(held.files)).encoded()
        except OSError as error:
            raise NotFoundError(f"the artifact {digest[:12]} cannot be read here: {error.strerror}") from None
        if len(text) > MAX_LIST_BYTES:
            raise NotFoundError(f"the artifact {digest[:12]} is too large to be copied")
        return text


def _read(path: Path, offset: int, size_bytes: int) -> bytes:
    """Raises NotFoundError where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size_bytes, offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise NotFoundError(f"{path.name!a} cannot be read here: {error.strerror}") from None
