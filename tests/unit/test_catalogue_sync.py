"""Catalogues of two nodes become alike, and only what differs is sent."""

import msgspec
import pytest

from appliance.core.errors import BadInputError
from appliance.core.manifest import Manifest
from federation.actions import Action, CatalogueChanged, Fault, Send, StoreRegisters
from federation.catalogue import MAX_RECORDS, PUSH_BYTES, TELL_S, MeshCatalogue
from federation.catalogue_hash import BUCKETS, SumHash, record_bucket, record_hash, register_bucket, register_hash
from federation.catalogue_sync import MAX_PIECE_ITEMS, PIECE_BYTES, Asking, Giving, record_pieces
from federation.holdings import MAX_HOLDINGS, Holdings
from federation.messages import (
    Catalogue,
    CatalogueAsked,
    Head,
    Record,
    Records,
    Register,
    Registers,
    Stamp,
    removal_key,
)
from federation.outbox import Outbox
from federation.peer import AWAITED_S
from tests.unit.mesh_network import UNIX_S, record_of

A, B = "a" * 32, "b" * 32


def many(count: int, *, content: str = "x") -> list[Record]:
    return [record_of(f"acme/m{number}", content=content) for number in range(count)]


class Pair:
    """Two catalogues with a link between them. What is said is kept, in order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.unix_s = UNIX_S
        self.outboxes = {A: Outbox(), B: Outbox()}
        self.ends = {
            node_id: MeshCatalogue(node_id, lambda: self.unix_s, (), outbox, 0.0)
            for node_id, outbox in self.outboxes.items()
        }
        self.said: list[tuple[str, Head]] = []
        self.actions: list[Action] = []

    def connect(self) -> None:
        for node_id, other in ((A, B), (B, A)):
            self.ends[node_id].link_up(other, self.now_s)
        self.talk()

    def talk(self) -> None:
        """Until nobody has anything to say."""
        while moves := [(node_id, action) for node_id in (A, B) for action in self.outboxes[node_id].take()]:
            for node_id, action in moves:
                self.actions.append(action)
                if not isinstance(action, Send):
                    continue
                head = action.head
                self.said.append((node_id, head))
                assert isinstance(head, Catalogue | CatalogueAsked | Records | Registers)
                for other in action.to:
                    self.ends[other].heard(node_id, head, len(msgspec.msgpack.encode(head)), self.now_s)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now_s += 0.1
            for end in self.ends.values():
                end.tick(self.now_s)
            self.talk()

    def records_said(self) -> int:
        return sum(len(head.records) for _, head in self.said if isinstance(head, Records))

    def known(self, node_id: str, of: str) -> set[Record]:
        return {record for record in self.ends[node_id].holdings_of(of).records.values() if record is not None}

    def names(self, node_id: str) -> list[str]:
        return self.ends[node_id].view.names()


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_two_that_have_nothing_say_so_and_no_more(pair: Pair) -> None:
    pair.connect()
    pair.tick(50)
    assert pair.said == [(A, Catalogue(b"", b"")), (B, Catalogue(b"", b""))]
    pair.tick(60)
    assert len(pair.said) == 4  # every TELL_S
    assert TELL_S == 10.0


def test_what_was_there_before_they_met_is_asked_for(pair: Pair) -> None:
    pair.ends[A].set_holdings(many(40))
    pair.ends[B].set_holdings([record_of("other/thing")])
    pair.ends[B].write("alias", "other/thing", "prod", "1.0.0")
    pair.talk()
    pair.connect()
    pair.tick()
    assert pair.names(A) == pair.names(B)
    assert len(pair.names(A)) == 41
    model = pair.ends[A].view.model("other/thing")
    assert model is not None
    assert model.aliases == {"prod": "1.0.0"}


def test_only_buckets_that_differ_are_sent(pair: Pair) -> None:
    records = many(600)
    pair.ends[A].set_holdings(records)
    pair.connect()
    pair.tick(20)
    assert len(pair.names(B)) == 600
    pair.ends[A].link_down(B, pair.now_s)
    pair.ends[B].link_down(A, pair.now_s)
    assert pair.names(B) == []  # whoever has no link has nothing to offer
    pair.ends[A].set_holdings([*records[1:], record_of("acme/new")])
    pair.said.clear()
    pair.connect()
    pair.tick(20)
    assert pair.names(B) == pair.names(A)
    assert 0 < pair.records_said() < 30  # of 600, some 2 in each of 256


def lost(pair: Pair, name: str) -> list[str]:
    """The versions of a model that B takes for lost."""
    model = pair.ends[B].view.model(name)
    return sorted(model.lost) if model is not None else []


def test_what_a_lost_peer_has_is_lost_for_a_moment_and_out_of_reach_for_longer(pair: Pair) -> None:
    pair.ends[A].set_holdings([record_of("acme/m")])
    pair.connect()
    pair.tick()
    pair.actions.clear()
    pair.ends[B].link_down(A, pair.now_s)
    assert (pair.names(B), lost(pair, "acme/m")) == ([], ["1.0.0"])
    pair.tick(int(AWAITED_S * 10) + 1)
    assert lost(pair, "acme/m") == []
    assert [node_id for node_id, _ in pair.ends[B].view.lost.of("acme/m")] == [A]
    pair.ends[B].forget(A, pair.now_s)
    assert list(pair.ends[B].view.lost.of("acme/m")) == []


def test_what_a_peer_has_stays_lost_until_it_says_so_again(pair: Pair) -> None:
    pair.ends[A].set_holdings([record_of("acme/m"), record_of("acme/gone")])
    pair.connect()
    pair.tick()
    for node_id, other in ((A, B), (B, A)):
        pair.ends[node_id].link_down(other, pair.now_s)
    pair.ends[A].set_holdings([record_of("acme/m"), record_of("acme/new")])
    pair.ends[B].link_up(A, pair.now_s)
    assert lost(pair, "acme/m") == ["1.0.0"]  # it is not known yet whether it is what it was
    pair.connect()
    pair.tick(5)
    assert (pair.names(B), lost(pair, "acme/m")) == (["acme/m", "acme/new"], [])
    assert lost(pair, "acme/gone") == []  # it has told all that it has
    assert list(pair.ends[B].view.lost.of("acme/gone")) == []


def test_what_is_deleted_while_its_only_holder_is_away_is_lost_no_more(pair: Pair) -> None:
    record = record_of("acme/m")
    pair.ends[A].set_holdings([record])
    pair.connect()
    pair.tick()
    pair.ends[B].link_down(A, pair.now_s)
    pair.ends[B].write("removed", "acme/m", removal_key(record.version, record.digest), record.digest)
    assert lost(pair, "acme/m") == []
    assert list(pair.ends[B].view.out_of_reach("acme/m")) == []


def test_of_a_peer_that_comes_and_goes_with_other_holdings_each_time_what_it_told_last_is_kept(pair: Pair) -> None:
    end, names = pair.ends[B], [f"acme/m{number}" for number in range(5)]
    for name in names:
        record = record_of(name)
        end.link_up(A, pair.now_s)
        # It never says that this is all.
        end.heard(A, Catalogue(b"more", b"", [b"other"] * BUCKETS, []), 100, pair.now_s)
        end.heard(A, Records([record_bucket(record)], [record]), 100, pair.now_s)
        assert name in pair.names(B)
        end.link_down(A, pair.now_s)
    assert [name for name in names if list(end.view.lost.of(name))] == names[-1:]


def test_what_did_not_change_while_a_link_was_down_is_not_sent_again(pair: Pair) -> None:
    pair.ends[A].set_holdings(many(100))
    pair.connect()
    pair.tick(10)
    pair.ends[B].link_down(A, pair.now_s)
    pair.ends[A].link_down(B, pair.now_s)
    pair.said.clear()
    pair.connect()
    assert len(pair.names(B)) == 100
    assert pair.records_said() == 0


def test_a_small_change_is_pushed_to_all_at_once(pair: Pair) -> None:
    pair.connect()
    pair.said.clear()
    pair.ends[A].set_holdings([record_of("acme/m")])
    pair.tick()
    assert pair.names(B) == ["acme/m"]
    assert [type(head) for _, head in pair.said] == [Records, Catalogue]
    pair.said.clear()
    pair.ends[A].set_holdings([])
    pair.tick()
    assert pair.names(B) == []
    assert [type(head) for _, head in pair.said] == [Records, Catalogue]


def test_a_large_change_is_asked_for_in_pieces(pair: Pair) -> None:
    pair.connect()
    pair.ends[A].set_holdings(many(2500))
    pair.tick()
    assert len(pair.names(B)) < 2500
    pair.tick(20)
    assert len(pair.names(B)) == 2500
    sizes = [len(msgspec.msgpack.encode(head)) for _, head in pair.said if isinstance(head, Records)]
    assert max(sizes) < 1.1 * PIECE_BYTES
    assert len(msgspec.msgpack.encode(many(2500))) > PUSH_BYTES


def test_a_bucket_larger_than_a_piece_is_cut_and_put_together(pair: Pair) -> None:
    manifest = Manifest(description="long " * 4000)
    large = [msgspec.structs.replace(record, manifest=manifest) for record in many(3000)]
    one_bucket = [record for record in large if record_bucket(record) == 7]
    assert len(one_bucket) > 5
    pair.ends[A].set_holdings(one_bucket)
    pair.connect()
    pair.tick(20)
    assert len(pair.names(B)) == len(one_bucket)
    assert [head.more for _, head in pair.said if isinstance(head, Records)].count(True) > 1


def test_until_a_peers_old_holdings_are_confirmed_none_counts(pair: Pair) -> None:
    pair.ends[A].set_holdings(many(100))
    pair.connect()
    pair.tick(5)
    for node_id, other in ((A, B), (B, A)):
        pair.ends[node_id].link_down(other, pair.now_s)
    pair.ends[B].link_up(A, pair.now_s)
    assert pair.names(B) == []
    pair.ends[B].heard(A, Records([1], []), 100, pair.now_s)
    assert pair.names(B) == []
    # Now it is known which buckets are as they were; what lay in the others may be gone.
    kept = [record for record in many(100) if record_bucket(record) % 2]
    now = Holdings()
    now.set_all(kept)
    pair.ends[B].heard(A, Catalogue(now.hash.total, b"", now.hash.buckets, [b""] * BUCKETS), 100, pair.now_s)
    assert set(pair.names(B)) == {record.name for record in kept}


def test_a_write_reaches_all_and_is_to_be_stored_on_both(pair: Pair) -> None:
    pair.connect()
    pair.actions.clear()
    written = pair.ends[A].write("alias", "acme/m", "prod", "1.0.0")
    pair.talk()
    stored = [action.registers for action in pair.actions if isinstance(action, StoreRegisters)]
    assert stored == [(written,), (written,)]
    assert [action.names for action in pair.actions if isinstance(action, CatalogueChanged)] == [{"acme/m"}] * 2
    assert pair.ends[B].register("alias", "acme/m", "prod") == written


def test_a_removal_is_not_before_what_it_removes_though_the_clocks_differ(pair: Pair) -> None:
    ahead = record_of("acme/m", created_s=UNIX_S + 7200.0)
    pair.ends[A].set_holdings([ahead])
    pair.connect()
    pair.tick()
    pair.ends[B].write("removed", "acme/m", removal_key(ahead.version, ahead.digest), ahead.digest)
    pair.talk()
    for end in pair.ends.values():
        model = end.view.model("acme/m")
        assert model is not None
        assert model.dead == {A: (ahead,)}
        assert not model.versions
    later = pair.ends[B].write("alias", "acme/m", "prod", "1.0.0")
    assert later.stamp.ms < UNIX_S * 1000 + 1000  # that one removal drags nothing else


def test_a_write_beyond_the_bounds_is_refused_with_a_sentence(pair: Pair) -> None:
    with pytest.raises(BadInputError, match="too long"):
        pair.ends[A].write("alias", "acme/m", "prod", "x" * 100_000)


def test_forgotten_tombstones_are_told_to_whoever_stores_them(pair: Pair) -> None:
    pair.ends[A].write("alias", "acme/m", "prod", "")
    pair.talk()
    pair.actions.clear()
    pair.unix_s += 31 * 86400
    pair.now_s += 4000
    pair.tick()
    assert StoreRegisters((), (("alias", "acme/m", "prod"),)) in pair.actions


def test_asking_in_vain_becomes_rare() -> None:
    asking = Asking()
    asking.heard((b"theirs", b""), b"")
    asked = [tick / 10 for tick in range(3000) if asking.is_due((b"mine", b""), tick / 10)]
    assert asked[:5] == [0.0, 2.0, 6.0, 14.0, 30.0]
    assert len(asked) < 11
    asking.heard((b"new", b""), b"")
    assert asking.is_due((b"mine", b""), 400.0)
    assert not asking.is_due((b"new", b""), 500.0)


def test_registers_are_compared_when_they_are_told_alone() -> None:
    asking = Asking()
    asking.heard((b"", b"theirs"), b"mine")
    assert asking.is_due((b"", b"mine"), 0.0)
    assert not asking.is_due((b"", b"mine"), 100.0)


@pytest.mark.parametrize(
    "head",
    [
        CatalogueAsked(holdings=[-1, 256, 10**9] * 1000, registers=[-5]),
        Catalogue(b"x" * 99, b"", [b"?"] * 7, [b"?"] * 999),
        Records([-1, 300], [record_of("acme/m")]),
        Records([1, 2], [record_of("acme/m")], more=True),
        Records([], [record_of("acme/m")]),
        Records(list(range(BUCKETS)), [msgspec.structs.replace(record_of("acme/m"), name="../../etc")]),
        Records(list(range(BUCKETS)), [msgspec.structs.replace(record_of("acme/m"), version="1")]),
        Records(list(range(BUCKETS)), [msgspec.structs.replace(record_of("acme/m"), digest="0" * 63)]),
        Records(list(range(BUCKETS)), [msgspec.structs.replace(record_of("acme/m"), ordinal=0)]),
        Records(list(range(BUCKETS)), [msgspec.structs.replace(record_of("acme/m"), created_s=float("nan"))]),
        Registers([Register("alias", "x", "y", Stamp(1, 1, B), "z")]),
    ],
)
def test_what_cannot_be_meant_changes_nothing(
    pair: Pair, head: Catalogue | CatalogueAsked | Records | Registers
) -> None:
    pair.ends[A].link_up(B, 0.0)
    pair.ends[A].heard(B, head, 100, 0.0)
    pair.ends[A].tick(0.1)
    assert pair.names(A) == []
    assert not pair.ends[A].holdings_of(B).records


def test_there_is_a_bound_on_what_all_peers_hold_and_it_is_told_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.catalogue.MAX_RECORDS", 50)
    pair.ends[A].set_holdings(many(200))
    pair.connect()
    pair.tick(50)
    assert len(pair.names(B)) <= 50
    assert len([action for action in pair.actions if isinstance(action, Fault)]) == 1
    assert MAX_RECORDS > MAX_HOLDINGS


def test_there_is_a_bound_on_the_size_of_what_one_peer_holds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.holdings.MAX_HOLDINGS_BYTES", 10_000)
    pair.ends[A].set_holdings(many(200))
    pair.connect()
    pair.tick(50)
    assert 20 < len(pair.names(B)) < 100
    assert len([action for action in pair.actions if isinstance(action, Fault)]) == 1


def test_there_is_a_bound_on_what_one_node_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.holdings.MAX_HOLDINGS", 10)
    holdings = Holdings()
    holdings.set_all(many(30))
    assert len(holdings.records) == 10


def test_a_message_with_more_than_fits_into_a_turn_is_passed_over(pair: Pair) -> None:
    pair.connect()
    taken = pair.ends[A]
    stamp = Stamp(int(UNIX_S * 1000), 0, B)
    registers = [Register("alias", f"acme/m{number}", "prod", stamp, "1.0.0") for number in range(MAX_PIECE_ITEMS + 1)]
    records = [record for record in many(12_000) if record_bucket(record) < 64]
    assert len(records) > MAX_PIECE_ITEMS
    taken.heard(B, Registers(registers), 0, 0.0)
    taken.heard(B, Records(list(range(64)), records), 0, 0.0)
    assert taken.register("alias", "acme/m0", "prod") is None
    assert not taken.view.names()
    taken.heard(B, Registers(registers[1:]), 0, 0.0)
    taken.heard(B, Records(list(range(64)), records[:MAX_PIECE_ITEMS]), 0, 0.0)
    assert taken.register("alias", "acme/m1", "prod") is not None
    assert len(taken.view.names()) == MAX_PIECE_ITEMS


def test_the_hash_of_holdings_is_that_of_the_set_however_it_came_about() -> None:
    records = many(50)
    one, two = Holdings(), Holdings()
    one.set_all(records)
    two.set_all(many(80, content="y"))
    gone, new = two.set_all(reversed(records))
    assert (len(gone), len(new)) == (80, 50)
    assert one.hash.total == two.hash.total
    assert one.hash.buckets == two.hash.buckets
    assert two.set_all(records) == ([], [])
    assert two.set_all([])[0]
    assert two.hash.total == b""


def test_a_record_of_a_later_release_hashes_alike() -> None:
    """The fields that count are listed: these figures must stay what they are, or two releases would never agree."""
    described = msgspec.structs.replace(record_of("acme/m"), manifest=Manifest(description="new"), batch_reason="?")
    assert record_hash(described) == record_hash(record_of("acme/m")) == 11848290067331591296
    assert record_bucket(described) == 238
    register = Register("alias", "acme/m", "prod", Stamp(1, 2, A), "1.0.0")
    assert (register_hash(register), register_bucket(register)) == (3919165837757059400, 29)


def test_a_sum_of_another_number_of_buckets_differs_in_all() -> None:
    assert SumHash().differing([b""] * 16) == list(range(BUCKETS))
    assert SumHash().differing([b""] * BUCKETS) == []


def test_what_is_asked_twice_is_given_once() -> None:
    giving = Giving()
    holdings = Holdings()
    holdings.set_all(many(500))
    giving.owe(range(BUCKETS), ())
    giving.owe(range(BUCKETS), ())
    given = 0
    while (piece := giving.next_piece(holdings.in_bucket, lambda bucket: [])) is not None:
        assert isinstance(piece, Records)
        given += len(piece.records)
    assert given == 500


def test_an_empty_bucket_is_given_too_so_that_it_is_known_to_be_empty() -> None:
    assert list(record_pieces({9: []})) == [Records([9], [])]
    assert list(record_pieces({9: [], 8: []})) == [Records([9, 8], [])]


def test_pieces_of_a_bucket_that_are_never_completed_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.catalogue_sync.MAX_GATHERED_BYTES", 1000)
    asking = Asking()
    record = next(record for record in many(3000) if record_bucket(record) == 5)
    for _ in range(3):
        assert asking.gather(Records([5], [record], more=True), 400) == {}
    assert asking.gather(Records([5], [record]), 400) == {5: [record]}
    assert asking.gather(Records([5], [record], more=True), 400) == {}
    assert asking.gather(Records([6], [record], more=True), 400) == {}
    assert asking.gather(Records([5], [record]), 400) == {5: [record]}
