"""What exists in the mesh, kept alike on all nodes: this node's holdings, those that peers tell, the registers, and the
view of it all. Takes the messages about them and puts answers into the outbox; which peers have links it is told."""

import math
from collections.abc import Callable, Iterable
from itertools import chain

from appliance.core.errors import BadInputError
from federation.actions import Fault, StoreRegisters
from federation.catalogue_hash import record_bucket
from federation.catalogue_sync import MAX_PIECE_ITEMS, Asking, Giving, Hashes, size_bytes
from federation.holdings import MAX_HOLDINGS_BYTES, Holdings, record_key
from federation.hybrid_clock import HybridClock
from federation.messages import Catalogue, CatalogueAsked, Record, Records, Register, Registers
from federation.outbox import Outbox
from federation.peer import AWAITED_S
from federation.registers import RegisterKey, RegisterSet, register_key
from federation.view import MeshView

TELL_S = 10.0
FORGET_TOMBSTONES_S = 3600.0
# Over all peers; equal records of several nodes count each, though they lie in memory once.
MAX_RECORDS = 500_000
# A change of holdings is pushed to all where its buckets are this small; else each peer asks for it in its turn.
PUSH_BYTES = 16 * 1024
_PIECES_A_TICK = 8
_PIECES_OF_ONE = 2


class _Link:
    """With one peer while its link is up, but for `holdings`, which outlive a link: if they hash as before when it
    comes back, they need not be sent again. Until that is known they count for nothing (`believed`)."""

    def __init__(self, holdings: Holdings, now_s: float) -> None:
        self.holdings = holdings
        self.believed = not holdings.records
        self.asking = Asking()
        self.giving = Giving()
        self.pieces_left = _PIECES_OF_ONE
        self.tell_s = now_s + TELL_S


class MeshCatalogue:
    """One object for the node's life. Methods that take `node_id` of a peer without a link do nothing."""

    def __init__(
        self, node_id: str, unix_s: Callable[[], float], kept: Iterable[Register], outbox: Outbox, now_s: float
    ) -> None:
        self._node_id = node_id
        self._outbox = outbox
        self._own = Holdings()
        self._changed_buckets: set[int] = set()
        self._heard: dict[str, Holdings] = {}
        self._outside: dict[str, dict[str, Record]] = {}  # of servers that are no nodes: by id, by key
        self._links: dict[str, _Link] = {}
        self._turn = 0
        self._awaited_until_s: dict[str, float] = {}  # by node id
        self._registers = RegisterSet(HybridClock(node_id, unix_s), unix_s, kept)
        self._forget_s = now_s + FORGET_TOMBSTONES_S
        self._is_full = False
        self.view = MeshView(lambda name: self._registers.of(name).values())

    # This node's.

    def set_holdings(self, records: Iterable[Record]) -> None:
        gone, new = self._own.set_all(records)
        self._show(self._node_id, gone, new)
        self._changed_buckets.update(record_bucket(record) for record in (*gone, *new))

    def set_outside(self, server_id: str, records: Iterable[Record]) -> None:
        """All that a server has which is no node. This node alone knows of it, and tells nobody."""
        before = self._outside.pop(server_id, {})
        after = {record_key(record): record for record in records}
        if after:
            self._outside[server_id] = after
        gone = [record for key, record in before.items() if after.get(key) != record]
        self._show(server_id, gone, [record for key, record in after.items() if before.get(key) != record])

    def write(self, kind: str, name: str, key: str, value: str) -> Register:
        """Raises BadInputError where the register is beyond its bounds, or there are too many."""
        register = self._registers.write(kind, name, key, value, least_ms=self._removal_ms(kind, name, key, value))
        if not self._merge([register]):
            raise BadInputError(
                f"the {kind} of '{name[:200]}' cannot be kept in the mesh: it is too long, or there are too many"
            )
        self._outbox.send_all(tuple(self._links), Registers([register]))
        return register

    def register(self, kind: str, name: str, key: str) -> Register | None:
        return self._registers.get(kind, name, key)

    # Peers'.

    def holdings_of(self, node_id: str) -> Holdings:
        """The same object until forget()."""
        return self._heard.setdefault(node_id, Holdings())

    def link_up(self, node_id: str, now_s: float) -> None:
        self.link_down(node_id, now_s)
        self._links[node_id] = _Link(self.holdings_of(node_id), now_s)
        self._outbox.send(node_id, self._catalogue())

    def link_down(self, node_id: str, now_s: float) -> None:
        """What it holds is not to be had now; for AWAITED_S it may be again soon."""
        link = self._links.pop(node_id, None)
        if link is not None and link.believed:
            # What it had before this link and did not tell again is forgotten: of one that comes and goes, each time
            # with other holdings, no more is kept than it told last.
            self._give_up(node_id, forget=True)
            self._awaited_until_s[node_id] = now_s + AWAITED_S
            for key, record in link.holdings.records.items():
                self.view.lose(node_id, key, record)
                self._outbox.names_changed(record.name)

    def forget(self, node_id: str, now_s: float) -> None:
        self.link_down(node_id, now_s)
        self._heard.pop(node_id, None)
        self._awaited_until_s.pop(node_id, None)
        self._give_up(node_id, forget=True)

    def _give_up(self, node_id: str, *, forget: bool) -> None:
        for name in self.view.give_up(node_id, forget=forget):
            self._outbox.names_changed(name)

    def _stop_awaiting(self, now_s: float) -> None:
        for node_id in [node_id for node_id, until_s in self._awaited_until_s.items() if now_s >= until_s]:
            del self._awaited_until_s[node_id]
            link = self._links.get(node_id)
            self._give_up(node_id, forget=link is not None and link.believed)

    def forget_revoked(self) -> None:
        """This node left its mesh: whom that threw out, and whom that let call, is nothing to the next one."""
        gone = [key for kind in ("node", "key") for key in self._registers.forget_kind(kind)]
        self._changed_registers((), tuple(gone))

    def heard(
        self, node_id: str, head: Catalogue | CatalogueAsked | Records | Registers, head_bytes: int, now_s: float
    ) -> None:
        link = self._links.get(node_id)
        if link is None:
            return
        match head:
            case Catalogue():
                self._compare(node_id, link, head, now_s)
            case CatalogueAsked():
                if head.with_buckets:
                    self._outbox.send(node_id, self._catalogue(with_buckets=True))
                link.giving.owe(head.holdings, head.registers)
                self._give(node_id, link)
            # Where they are not believed yet the buckets are compared first, and these come again.
            case Records() if link.believed and len(head.records) <= MAX_PIECE_ITEMS:
                link.asking.busy(now_s)
                self._take_buckets(node_id, link, link.asking.gather(head, head_bytes))
            case Registers() if len(head.registers) <= MAX_PIECE_ITEMS:
                if self._merge(head.registers):
                    link.tell_s = min(link.tell_s, now_s)

    def tick(self, now_s: float) -> None:
        self._stop_awaiting(now_s)
        if self._changed_buckets:
            self._push()
            for link in self._links.values():
                link.tell_s = now_s
        telling = [node_id for node_id, link in self._links.items() if now_s >= link.tell_s]
        if telling:
            self._outbox.send_all(tuple(telling), self._catalogue())
        for node_id in telling:
            self._links[node_id].tell_s = now_s + TELL_S
        for node_id, link in self._links.items():
            self._ask(node_id, link, now_s)
        self._give_all()
        if now_s >= self._forget_s:
            self._forget_s = now_s + FORGET_TOMBSTONES_S
            self._changed_registers((), tuple(self._registers.forget_tombstones()))

    def _ask(self, node_id: str, link: _Link, now_s: float) -> None:
        if link.asking.is_due(self._known(link), now_s):
            self._outbox.send(node_id, CatalogueAsked(with_buckets=True))

    def _known(self, link: _Link) -> Hashes:
        return link.holdings.hash.total, self._registers.hash.total

    def _catalogue(self, *, with_buckets: bool = False) -> Catalogue:
        holdings, registers = self._own.hash, self._registers.hash
        if not with_buckets:
            return Catalogue(holdings.total, registers.total)
        return Catalogue(holdings.total, registers.total, holdings.buckets, registers.buckets)

    def _compare(self, node_id: str, link: _Link, told: Catalogue, now_s: float) -> None:
        link.asking.heard((told.holdings_hash, told.register_hash), self._registers.hash.total)
        holdings: list[int] = []
        registers: list[int] = []
        if told.holdings_buckets:
            holdings = link.holdings.hash.differing(told.holdings_buckets)
        if told.register_buckets:
            registers = self._registers.hash.differing(told.register_buckets)
        if not link.believed and (told.holdings_buckets or told.holdings_hash == link.holdings.hash.total):
            for bucket in holdings:
                link.holdings.set_bucket(bucket, ())
            link.believed = True
            if node_id in self._awaited_until_s or self.view.lost.names(node_id):
                self._awaited_until_s[node_id] = now_s + AWAITED_S  # what it has still, it says meanwhile
            self._show(node_id, (), link.holdings.records.values())
            self._see_if_all_is_told(node_id, link)
        if holdings or registers:
            link.asking.busy(now_s)
            self._outbox.send(node_id, CatalogueAsked(holdings=holdings, registers=registers))
        else:
            self._ask(node_id, link, now_s)

    def _take_buckets(self, node_id: str, link: _Link, buckets: dict[int, list[Record]]) -> None:
        room = MAX_RECORDS - sum(len(holdings.records) for holdings in self._heard.values())
        for bucket, told in buckets.items():
            records = [self.view.same_record(record_key(record), record) for record in told]
            room -= len(records)
            has_room = room >= 0 and link.holdings.has_room(bucket, sum(map(size_bytes, told)))
            gone, new = link.holdings.set_bucket(bucket, records if has_room else ())
            self._show(node_id, gone, new)
            if not has_room:
                self._tell_it_is_full()
        if link.asking.is_told(link.holdings.hash.total):
            link.asking.done()
        self._see_if_all_is_told(node_id, link)

    def _see_if_all_is_told(self, node_id: str, link: _Link) -> None:
        """What a peer that is back has not told again by then it has no more: it is not awaited further."""
        if node_id in self._awaited_until_s and link.asking.is_told(link.holdings.hash.total):
            del self._awaited_until_s[node_id]
            self._give_up(node_id, forget=True)

    def _tell_it_is_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            sentence = (
                f"the nodes of the mesh tell of more than {MAX_RECORDS} versions, or one of them of more than "
                f"{MAX_HOLDINGS_BYTES >> 20} MiB: this node does not know them all"
            )
            self._outbox.put(Fault("", sentence))

    def _show(self, node_id: str, gone: Iterable[Record], new: Iterable[Record]) -> None:
        for record in gone:
            self.view.let_go(node_id, record_key(record), record)
            self._outbox.names_changed(record.name)
        for record in new:
            self.view.hold(node_id, record_key(record), record)
            self._outbox.names_changed(record.name)

    # Registers.

    def _merge(self, registers: Iterable[Register]) -> bool:
        """Whether there was news."""
        news = self._registers.merge(registers)
        self._changed_registers(tuple(news), ())
        return bool(news)

    def _changed_registers(self, news: tuple[Register, ...], gone: tuple[RegisterKey, ...]) -> None:
        if not news and not gone:
            return
        for _, name, _ in (*map(register_key, news), *gone):
            self.view.forget_made(name)
            self._outbox.names_changed(name)
        self._outbox.put(StoreRegisters(news, gone))

    def _removal_ms(self, kind: str, name: str, key: str, value: str) -> int:
        """A removal is not before what it removes was deployed, whatever the clocks say."""
        if kind != "removed" or not value:
            return 0
        away = (holdings.records.get(f"{name}:{key}") for holdings in self._heard.values())  # some of them
        known = (record for record in (*self.view.records(name), *away) if record is not None)
        created_s = (record.created_s for record in known if record.digest == value)
        return math.ceil(max(created_s, default=0.0) * 1000)

    # Giving.

    def _push(self) -> None:
        """What changed on this node goes to all at once, if it is small."""
        buckets = {bucket: self._own.in_bucket(bucket) for bucket in sorted(self._changed_buckets)}
        self._changed_buckets.clear()
        pushed_bytes = 0
        for record in chain.from_iterable(buckets.values()):
            pushed_bytes += size_bytes(record)
            if pushed_bytes > PUSH_BYTES:
                return
        self._outbox.send_all(tuple(self._links), Records(list(buckets), list(chain.from_iterable(buckets.values()))))

    def _give_all(self) -> None:
        node_ids = list(self._links)
        self._turn = (self._turn + 1) % max(1, len(node_ids))
        budget = _PIECES_A_TICK
        for node_id in node_ids[self._turn :] + node_ids[: self._turn]:
            link = self._links[node_id]
            link.pieces_left = min(_PIECES_OF_ONE, budget)
            budget -= self._give(node_id, link)

    def _give(self, node_id: str, link: _Link) -> int:
        """How many pieces went out: what is left of this peer's share of a tick, no more."""
        given = 0
        while link.pieces_left > 0:
            piece = link.giving.next_piece(self._own.in_bucket, self._registers.in_bucket)
            if piece is None:
                break
            self._outbox.send(node_id, piece)
            link.pieces_left -= 1
            given += 1
        return given
