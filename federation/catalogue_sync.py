"""One peer's catalogue, compared and fetched: whether something is to be asked, what is still to be given, and the
pieces of a bucket that comes in several messages. Decides and packs; sends nothing itself.

    Catalogue (two hashes) ─▶ differ? ─▶ CatalogueAsked(with_buckets) ─▶ Catalogue (with 256 each) ─▶
    CatalogueAsked(those that differ) ─▶ Records, Registers

What is asked is decided anew with each tick from what the peer told last, and each tells every TELL_S, so a message
that is lost with its link, or a change in between, costs time and nothing else. What is given goes out a piece with
each tick, so calls on the same link do not wait behind a catalogue.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from federation.catalogue_hash import BUCKETS, record_bucket
from federation.messages import Record, Records, Register, Registers

PIECE_BYTES = 64 * 1024
MAX_PIECE_ITEMS = 2000  # a message with more is passed over: all of one is dealt with in one turn of the loop
MAX_GATHERED_BYTES = 64 * 1024 * 1024  # of one bucket that is not complete yet
# A larger item would be a message of its own, which is beyond what a head may be.
MAX_ITEM_BYTES = 3 * 1024 * 1024
_ASK_AGAIN_S = 2.0
_LAST_ASK_AGAIN_S = 60.0

Hashes = tuple[bytes, bytes]  # of holdings, of registers

Item = TypeVar("Item", Record, Register)

_encode = msgspec.msgpack.Encoder().encode


class Asking:
    """What this node has to ask one peer."""

    def __init__(self) -> None:
        self._told: Hashes | None = None  # by the peer, of what it has
        self._registers_differ = False
        self._compared: tuple[Hashes, Hashes] | None = None
        self._ask_s = -math.inf
        self._wait_s = _ASK_AGAIN_S
        self._gathered: dict[int, list[Record]] = {}
        self._gathered_bytes = 0

    def heard(self, told: Hashes, registers: bytes) -> None:
        """The peer told its hashes when this node's registers hashed so: they are compared now only, since this node
        may hear of a write before it hears that the peer did."""
        self._told, self._registers_differ = told, told[1] != registers

    def is_due(self, known: Hashes, now_s: float) -> bool:
        """Whether the buckets' hashes are to be asked for, which is then counted. `known`: of what this node has of
        the peer's holdings, and of its own registers. Asked in vain, it waits twice as long."""
        if self._told is None or now_s < self._ask_s:
            return False
        if self._told[0] == known[0] and not self._registers_differ:
            return False
        pair = (known, self._told)
        self._wait_s = min(_LAST_ASK_AGAIN_S, 2 * self._wait_s) if pair == self._compared else _ASK_AGAIN_S
        self._compared, self._ask_s = pair, now_s + self._wait_s
        self._registers_differ = False
        return True

    def busy(self, now_s: float) -> None:
        """Pieces come: there is no need to ask meanwhile."""
        self._ask_s = max(self._ask_s, now_s + _ASK_AGAIN_S)

    def is_told(self, holdings: bytes) -> bool:
        """Whether this is what the peer told last of its holdings."""
        return self._told is not None and self._told[0] == holdings

    def done(self) -> None:
        """The peer's holdings are known as it told them: the next difference is asked for at once."""
        self._ask_s = -math.inf

    def gather(self, records: Records, size_bytes: int) -> dict[int, list[Record]]:
        """The buckets that are complete with this message, which was so large, by number; records of other buckets are
        passed over. A sender cuts one bucket at a time; one that grows beyond MAX_GATHERED_BYTES is dropped."""
        sorted_out: dict[int, list[Record]] = {bucket: [] for bucket in records.buckets if 0 <= bucket < BUCKETS}
        for record in records.records:
            if (told := sorted_out.get(record_bucket(record))) is not None:
                told.append(record)
        if len(sorted_out) != 1:
            return {} if records.more else sorted_out
        ((bucket, told),) = sorted_out.items()
        before = self._gathered.pop(bucket, [])
        if not before:
            self._gathered, self._gathered_bytes = {}, 0
        self._gathered_bytes += size_bytes
        whole = before + told
        if not records.more:
            return {bucket: whole}
        if self._gathered_bytes <= MAX_GATHERED_BYTES:
            self._gathered[bucket] = whole
        return {}


class Giving:
    """What one peer asked for and this node still owes it: buckets, each once however often it is asked."""

    def __init__(self) -> None:
        self._holdings: dict[int, None] = {}
        self._registers: dict[int, None] = {}
        self._pieces: Iterator[Records | Registers] = iter(())

    def owe(self, holdings: Iterable[int], registers: Iterable[int]) -> None:
        self._holdings |= dict.fromkeys(bucket for bucket in holdings if 0 <= bucket < BUCKETS)
        self._registers |= dict.fromkeys(bucket for bucket in registers if 0 <= bucket < BUCKETS)

    def next_piece(
        self, records_in: Callable[[int], list[Record]], registers_in: Callable[[int], list[Register]]
    ) -> Records | Registers | None:
        """About PIECE_BYTES of what is owed; None where nothing is. A bucket is read when its turn comes."""
        piece = next(self._pieces, None)
        if piece is None and self._registers:
            buckets, self._registers = self._registers, {}
            self._pieces = register_pieces(register for bucket in buckets for register in registers_in(bucket))
            piece = next(self._pieces, None)
        if piece is None and self._holdings:
            self._pieces = record_pieces(self._some_buckets(records_in))
            piece = next(self._pieces, None)
        return piece

    def _some_buckets(self, records_in: Callable[[int], list[Record]]) -> dict[int, list[Record]]:
        """As many as go into one message, or one that is larger."""
        taken: dict[int, list[Record]] = {}
        taken_bytes = 0
        while self._holdings and taken_bytes < PIECE_BYTES:
            bucket = next(iter(self._holdings))
            records = records_in(bucket)
            taken_bytes += sum(map(size_bytes, records))
            if taken and taken_bytes > PIECE_BYTES:
                break
            del self._holdings[bucket]
            taken[bucket] = records
        return taken


def record_pieces(buckets: dict[int, list[Record]]) -> Iterator[Records]:
    """One message for several buckets; a single one may be cut over several."""
    if len(buckets) != 1:
        yield Records(list(buckets), [record for records in buckets.values() for record in records])
        return
    ((bucket, records),) = buckets.items()
    pieces = list(_cut(records))
    for number, piece in enumerate(pieces, start=1):
        yield Records([bucket], piece, more=number < len(pieces))
    if not pieces:
        yield Records([bucket], [])


def register_pieces(registers: Iterable[Register]) -> Iterator[Registers]:
    return (Registers(piece) for piece in _cut(registers))


def _cut(items: Iterable[Item]) -> Iterator[list[Item]]:
    piece: list[Item] = []
    piece_bytes = 0
    for item in items:
        item_bytes = size_bytes(item)
        if item_bytes > MAX_ITEM_BYTES:
            continue
        if piece and (piece_bytes + item_bytes > PIECE_BYTES or len(piece) >= MAX_PIECE_ITEMS):
            yield piece
            piece, piece_bytes = [], 0
        piece.append(item)
        piece_bytes += item_bytes
    if piece:
        yield piece


def size_bytes(item: Record | Register) -> int:
    """Of the item in a message."""
    return len(_encode(item))
