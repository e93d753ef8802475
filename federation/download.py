"""Which part of an artifact is asked of which peer, and whom to believe. Pure: it is told what came, and the time.

A piece is asked of one peer, block by block, so that wrong bytes have one author. Peers that hold all of it and peers
that fetch it too are asked alike; among pieces that a peer can give, the one that fewest others have goes first, so
that those who fetch together soon fetch from each other. Near the end, idle peers are given what slow ones still owe.

Whose list of pieces is believed: that of the first holder that sent one which fits the artifact's digest. A piece that
does not fit it speaks against its sender. If the whole does not fit although every piece did, if its giver's own pieces
do not, or if nobody is left who gives any, then the list was wrong: its giver is banned, those that it spoke against
are asked again, and another's list is taken. Each such turn bans one peer for good, so there is an end.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import msgspec

from appliance.core.requests import Buffer
from federation.artifact_list import ArtifactList, Piece
from federation.messages import Fetch
from federation.window import MIN_BLOCK_BYTES, Window

MAX_SOURCES = 8  # asked at once
MAX_OPEN_BYTES = 32 * 2**20  # of pieces that have begun and are not on the disk
STALL_S = 1.0  # without a block that was asked for, and twice as long each time; eight times what its blocks take;
MAX_STALL_S = 10.0  # but no longer than this
LIST_S = 30.0  # for a list: its giver may have to read the artifact first
REST_S = 2.0  # until a peer that stalled is asked again; twice as long each time, up to
MAX_REST_S = 30.0
DOUBT_S = 15.0  # without a new piece, after pieces that did not fit: the list is doubted
LEAST_OWED_S = 0.25  # a piece that comes sooner is not asked of a second peer
_SAMPLES = 48


class Ask(NamedTuple):
    """To be sent to a peer."""

    node_id: str
    fetch: Fetch


class ListCame(NamedTuple):
    """A list to be read: adopt() or ban() follows."""

    node_id: str
    text: bytes


class PieceCame(NamedTuple):
    """A piece to be compared with its mark and written: checked() follows."""

    node_id: str
    piece: Piece
    content: bytearray


class _Attempt(msgspec.Struct, eq=False):
    """One piece on its way from one peer."""

    piece: Piece
    content: bytearray
    begun_s: float
    asked_bytes: int = 0
    come_bytes: int = 0


class _Asked(msgspec.Struct, eq=False):
    """One block in flight; `attempt` None: the list. `in_flight_bytes`: of its peer when it was asked for."""

    attempt: _Attempt | None
    offset: int
    size_bytes: int
    at_s: float
    in_flight_bytes: int


class _Source(msgspec.Struct, eq=False):
    """A peer that is asked. `pieces` None: it holds all."""

    node_id: str
    pieces: set[int] | None
    list_digest: bytes = b""
    bitmap: bytes = b""
    window: Window = msgspec.field(default_factory=Window)
    asked: dict[int, _Asked] = {}
    attempts: list[_Attempt] = []
    in_flight_bytes: int = 0
    last_came_s: float = 0.0
    rests_until_s: float = 0.0
    rest_s: float = REST_S
    patience_s: float = STALL_S
    came_bytes: int = 0

    def has(self, number: int) -> bool:
        return self.pieces is None or number in self.pieces

    def forget_asked(self) -> None:
        self.asked.clear()
        self.attempts.clear()
        self.in_flight_bytes = 0


class Download:
    """One artifact. Whoever performs it calls poll() after anything that it tells, and now and then."""

    def __init__(self, digest: str, random: Random, numbers: Iterator[int]) -> None:
        """`numbers`: what asks are numbered with, unique over all downloads of a node."""
        self.digest = digest
        self.list: ArtifactList | None = None
        self.list_digest = b""
        self.done: set[int] = set()
        self.done_bytes = 0
        self.banned: dict[str, str] = {}  # node to why
        self.least_block_bytes = MIN_BLOCK_BYTES
        self._random = random
        self._sources: dict[str, _Source] = {}
        self._pieces: list[Piece] = []
        self._missing: list[int] = []  # neither done nor on their way; in no order
        self._place: dict[int, int] = {}  # of a piece in _missing
        self._open: dict[int, int] = {}  # attempts by piece, those that are being checked among them
        self._checking: set[int] = set()
        self._open_bytes = 0
        self._had_by: dict[int, int] = {}  # peers that fetch it too and have this piece
        self._numbers = numbers
        self._list_from = ""
        self._reading = ""  # whose list came and is neither adopted nor refused yet
        self._accused: set[str] = set()  # banned by a list that may yet prove wrong
        self._bitmap = bytearray()
        self._moved_s = 0.0  # when a piece came, or a list was taken

    # Who there is.

    @property
    def sources(self) -> list[str]:
        """Who is asked."""
        return list(self._sources)

    @property
    def complete(self) -> bool:
        """Every piece is there; whether the whole is what it should be is for verified() or distrusted()."""
        return self.list is not None and len(self.done) == len(self._pieces)

    def came_from(self) -> dict[str, int]:
        """Bytes that came, by peer that is asked."""
        return {source.node_id: source.came_bytes for source in self._sources.values() if source.came_bytes}

    def holds(self, node_id: str) -> None:
        """A peer holds all of it."""
        source = self._sources.get(node_id)
        if source is not None:
            self._count(source, -1)
            source.pieces = None
        elif node_id not in self.banned:
            self._sources[node_id] = _Source(node_id, None)

    def has_some(self, node_id: str, list_digest: bytes, bitmap: bytes) -> None:
        """A peer fetches it too, and has these pieces of that list."""
        if node_id in self.banned:
            return
        source = self._sources.setdefault(node_id, _Source(node_id, set()))
        if source.pieces is None:
            return
        source.list_digest, source.bitmap = list_digest, bitmap
        self._read_bitmap(source)

    def _read_bitmap(self, source: _Source) -> None:
        if source.pieces is None:
            return
        self._count(source, -1)
        ours = source.list_digest == self.list_digest and self.list is not None
        source.pieces = _numbers(source.bitmap, len(self._pieces)) if ours else set()
        self._count(source, 1)

    def _count(self, source: _Source, by: int) -> None:
        for number in source.pieces or ():
            self._had_by[number] = self._had_by.get(number, 0) + by

    def lost(self, node_id: str) -> None:
        """A peer cannot be asked any more; it may come back."""
        source = self._sources.pop(node_id, None)
        if source is not None:
            self._drop_asked(source)
            self._count(source, -1)

    def ban(self, node_id: str, why: str) -> None:
        """A peer sent what it should not: it is not asked again for this artifact."""
        self.lost(node_id)
        self.banned[node_id] = why
        if node_id == self._reading:
            self._reading = ""

    # What pieces there are.

    def adopt(self, now_s: float, listed: ArtifactList, node_id: str, there: set[int]) -> None:
        """Goes by this list, which `node_id` gave (empty: it was kept from before); `there` are pieces that are on the
        disk and fit it."""
        for source in self._sources.values():
            self._drop_asked(source)
        self.list, self.list_digest, self._list_from = listed, listed.digest(), node_id
        self._reading = ""
        self._pieces = list(listed.pieces())
        self._moved_s = now_s
        self.done = set(there)
        self._bitmap = bytearray(-(-len(self._pieces) // 8))
        for number in there:
            self._bitmap[number // 8] |= 1 << number % 8
        self.done_bytes = sum(self._pieces[number].size_bytes for number in there)
        self._open, self._open_bytes = {}, 0
        self._checking = set()
        self._missing = [piece.number for piece in self._pieces if piece.number not in there]
        self._place = {number: place for place, number in enumerate(self._missing)}
        for source in self._sources.values():
            self._read_bitmap(source)

    def distrusted(self, why: str) -> None:
        """Every piece fits the list, and the whole does not fit its digest: the list was wrong."""
        for node_id in self._accused:
            del self.banned[node_id]
        self._accused = set()
        self.list, self.list_digest = None, b""
        self._bitmap = bytearray()
        for source in self._sources.values():
            self._drop_asked(source)
            self._read_bitmap(source)
        if self._list_from:
            self.ban(self._list_from, why)
        self._list_from = ""

    def bitmap(self) -> bytes:
        """The pieces that are there, for HAVE."""
        return bytes(self._bitmap)

    def can_give(self, file: str, offset: int, size_bytes: int) -> bool:
        """Whether this part lies within pieces that are there."""
        if self.list is None or file not in self.list.files or offset < 0 or size_bytes <= 0:
            return False
        if offset + size_bytes > self.list.files[file].size_bytes:
            return False
        first = self._first_number(file)
        step = self.list.piece_bytes
        return all(first + index in self.done for index in range(offset // step, (offset + size_bytes - 1) // step + 1))

    def _first_number(self, file: str) -> int:
        assert self.list is not None
        number = 0
        for path, mark in self.list.files.items():
            if path == file:
                break
            number += -(-mark.size_bytes // self.list.piece_bytes)
        return number

    # What came.

    def chunk(self, now_s: float, node_id: str, number: int, body: Buffer) -> ListCame | PieceCame | None:
        """A block came. What is not asked for, or not any more, is passed over."""
        source = self._sources.get(node_id)
        asked = source.asked.pop(number, None) if source is not None else None
        if source is None or asked is None:
            return None
        source.last_came_s = now_s
        source.rest_s = REST_S
        source.came_bytes += len(body)
        attempt = asked.attempt
        if attempt is None:
            self._reading = node_id
            return ListCame(node_id, bytes(body))
        source.in_flight_bytes -= asked.size_bytes
        if len(body) != asked.size_bytes:
            self.ban(node_id, f"it sent {len(body)} bytes where {asked.size_bytes} were asked for")
            return None
        source.window.arrived(now_s, now_s - asked.at_s, asked.size_bytes, asked.in_flight_bytes)
        attempt.content[asked.offset : asked.offset + asked.size_bytes] = body
        attempt.come_bytes += asked.size_bytes
        if attempt.come_bytes < attempt.piece.size_bytes:
            return None
        source.attempts.remove(attempt)
        whole = attempt.piece.number
        if whole in self.done or whole in self._checking:  # another was quicker
            self._close(whole)
            return None
        self._checking.add(whole)
        return PieceCame(node_id, attempt.piece, attempt.content)

    def checked(self, now_s: float, came: PieceCame, *, fits: bool) -> None:
        """What became of a piece: it fits and is on the disk, or it does not fit."""
        number = came.piece.number
        if number not in self._checking or self._pieces[number] is not came.piece:  # of a list that was given up
            return
        self._checking.discard(number)
        if fits:
            self._moved_s = now_s
            self.done.add(number)
            self._bitmap[number // 8] |= 1 << number % 8
            self.done_bytes += came.piece.size_bytes
        self._close(number)
        if not fits:
            self._accuse(came.node_id, f"what it sent of {came.piece.file} is not what the artifact has there")

    def _accuse(self, node_id: str, why: str) -> None:
        self.ban(node_id, why)
        self._accused.add(node_id)
        if node_id == self._list_from:
            self.distrusted(why)

    def refused(self, now_s: float, node_id: str, number: int, code: str) -> None:
        """A peer does not give what it was asked for."""
        source = self._sources.get(node_id)
        asked = source.asked.get(number) if source is not None else None
        if source is None or asked is None:
            return
        if code == "not_found" and asked.attempt is not None and source.pieces is not None:
            lacking = asked.attempt.piece.number
            if lacking in source.pieces:
                source.pieces.discard(lacking)
                self._had_by[lacking] -= 1
        self._drop_asked(source)
        source.rests_until_s = now_s + (REST_S / 10 if code == "busy" else REST_S)

    # What is asked.

    def poll(self, now_s: float) -> list[Ask]:
        """What is to be asked of whom now. Those who were silent for too long are asked no more for a while."""
        for source in self._sources.values():
            self._look(source, now_s)
        if self.list is not None and self._accused and not self.complete and now_s - self._moved_s > DOUBT_S:
            self.distrusted("nobody's pieces fit the list that it gave")
        asks: list[Ask] = []
        if self.list is None:
            asks.extend(self._ask_for_list(now_s))
            return asks
        active = [source for source in self._sources.values() if source.asked]
        others = [s for s in self._sources.values() if not s.asked and s.rests_until_s <= now_s]
        self._random.shuffle(others)
        for source in active:
            asks.extend(self._fill(source, now_s))
        for source in others[: max(0, MAX_SOURCES - len(active))]:
            asks.extend(self._fill(source, now_s))
        return asks

    def refill(self, now_s: float, node_id: str) -> list[Ask]:
        """As poll(), for one peer from which something came just now."""
        source = self._sources.get(node_id)
        if source is None or self.list is None or source.rests_until_s > now_s:
            return []
        return list(self._fill(source, now_s))

    def _look(self, source: _Source, now_s: float) -> None:
        if not source.asked:
            return
        oldest = next(iter(source.asked.values()))
        patience_s = min(max(source.patience_s, 8 * source.window.block_s), MAX_STALL_S)
        if oldest.attempt is None:
            patience_s = LIST_S
        if now_s - max(source.last_came_s, oldest.at_s) > patience_s:
            self._drop_asked(source)
            source.window.stalled()
            source.rests_until_s = now_s + source.rest_s
            source.rest_s = min(2 * source.rest_s, MAX_REST_S)
            source.patience_s = min(2 * source.patience_s, MAX_STALL_S)

    def _ask_for_list(self, now_s: float) -> Iterator[Ask]:
        if self._reading:
            return
        holders = [s for s in self._sources.values() if s.pieces is None and s.rests_until_s <= now_s]
        if holders and not any(source.asked for source in self._sources.values()):
            source = self._random.choice(holders)
            yield self._ask(source, None, 0, 0, now_s)

    def _fill(self, source: _Source, now_s: float) -> Iterator[Ask]:
        """Asks a peer for as much as its window has room for."""
        block_bytes = source.window.block_bytes(self.least_block_bytes)
        while True:
            attempt = next((a for a in source.attempts if a.asked_bytes < a.piece.size_bytes), None)
            if attempt is None:
                if source.in_flight_bytes and source.in_flight_bytes + block_bytes > source.window.size_bytes:
                    return
                attempt = self._begin(source, now_s)
                if attempt is None:
                    return
            size_bytes = min(block_bytes, attempt.piece.size_bytes - attempt.asked_bytes)
            if source.in_flight_bytes and source.in_flight_bytes + size_bytes > source.window.size_bytes:
                return
            yield self._ask(source, attempt, attempt.asked_bytes, size_bytes, now_s)
            attempt.asked_bytes += size_bytes

    def _ask(self, source: _Source, attempt: _Attempt | None, offset: int, size_bytes: int, now_s: float) -> Ask:
        number = next(self._numbers)
        source.in_flight_bytes += size_bytes
        source.asked[number] = _Asked(attempt, offset, size_bytes, now_s, source.in_flight_bytes)
        if attempt is None:
            return Ask(source.node_id, Fetch(number, self.digest))
        piece = attempt.piece
        return Ask(source.node_id, Fetch(number, self.digest, piece.file, piece.offset + offset, size_bytes))

    def _begin(self, source: _Source, now_s: float) -> _Attempt | None:
        number = self._rarest(source)
        if number is None:
            number = self._owed_by_a_slower(source, now_s)
        if number is None:
            return None
        piece = self._pieces[number]
        if self._open_bytes and self._open_bytes + piece.size_bytes > MAX_OPEN_BYTES:
            return None
        if number in self._place:
            self._take(number)
        self._open[number] = self._open.get(number, 0) + 1
        self._open_bytes += piece.size_bytes
        attempt = _Attempt(piece, bytearray(piece.size_bytes), now_s)
        source.attempts.append(attempt)
        return attempt

    def _rarest(self, source: _Source) -> int | None:
        """Of some pieces that are missing and that the peer has, taken at random, the one that fewest others have."""
        if not self._missing:
            return None
        some = self._random.choices(self._missing, k=_SAMPLES)
        has = [number for number in some if source.has(number)]
        if not has and source.pieces is not None:
            has = list(source.pieces & self._place.keys())
            self._random.shuffle(has)
        return min(has, key=lambda number: self._had_by.get(number, 0), default=None)

    def _owed_by_a_slower(self, source: _Source, now_s: float) -> int | None:
        """The end game: a piece that is on its way from a peer that will take more than twice as long for it."""
        worst_s, number = LEAST_OWED_S, None
        own = source.window.bytes_per_s
        for other in self._sources.values():
            for attempt in other.attempts if other is not source else ():
                piece, rate = attempt.piece, other.window.bytes_per_s
                if self._open[piece.number] > 1 or piece.number in self._checking or not source.has(piece.number):
                    continue
                owed_s = (piece.size_bytes - attempt.come_bytes) / rate if rate else 0.0
                owed_s = max(owed_s, now_s - max(attempt.begun_s, other.last_came_s))
                if owed_s > worst_s and owed_s > 2 * (piece.size_bytes / own if own else 0.0):
                    worst_s, number = owed_s, piece.number
        return number

    # Books.

    def _take(self, number: int) -> None:
        place = self._place.pop(number)
        last = self._missing.pop()
        if last != number:
            self._missing[place] = last
            self._place[last] = place

    def _close(self, number: int) -> None:
        """One attempt at a piece is over; nobody's any more and not done, it is missing again."""
        self._open[number] -= 1
        self._open_bytes -= self._pieces[number].size_bytes
        if self._open[number]:
            return
        del self._open[number]
        if number not in self.done:
            self._place[number] = len(self._missing)
            self._missing.append(number)

    def _drop_asked(self, source: _Source) -> None:
        for attempt in source.attempts:
            self._close(attempt.piece.number)
        source.forget_asked()


def _numbers(bitmap: bytes, count: int) -> set[int]:
    return {
        8 * place + bit
        for place, byte in enumerate(bitmap[: -(-count // 8)])
        if byte
        for bit in range(8)
        if byte >> bit & 1 and 8 * place + bit < count
    }
