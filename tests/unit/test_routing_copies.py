"""Where a model is loaded in the background, and which disks have copies: as tables."""

import random
from collections.abc import Collection

import msgspec
import pytest

from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature
from appliance.routing.call import Call
from appliance.routing.copying import GIVE_UP_S, PASS_OVER_S, LoadsUnderWay, Place, new_place, places
from appliance.routing.cost import Candidate, Terms, price
from appliance.routing.replicas_wanted import copies_wanted
from federation.messages import Hello, Introduction, Load, ModelState, Record
from federation.peer import Peer, PeerStanding

KEY = "local/tiny:1.0.0@0123456789abcdef"


def best(total_s: float, run_s: float = 0.01) -> Terms:
    return price(Candidate("x", "x", 0.0, 0.0, total_s - run_s, 0.0, run_s), 0)


@pytest.mark.parametrize(
    ("total_s", "found", "expected"),
    [
        pytest.param(0.079, [Place("a", 0.01, True)], None, id="50 ms and three runs are no reason"),
        pytest.param(0.081, [Place("a", 0.01, True)], "a", id="more is"),
        pytest.param(0.081, [Place("a", 0.041, True)], None, id="it would not halve it"),
        pytest.param(0.5, [Place("a", 0.02, True), Place("b", 0.01, True)], "b", id="the cheapest"),
        pytest.param(0.5, [Place("a", 0.02, True), Place("b", 0.01, False)], "a", id="whose disk has it comes first"),
        pytest.param(0.5, [Place("b", 0.01, False), Place("a", 0.01, False)], "a", id="alike: all agree on one"),
        pytest.param(0.5, [], None, id="there is no place"),
    ],
)
def test_a_model_that_is_slow_is_loaded_elsewhere_too(total_s: float, found: list[Place], expected: str | None) -> None:
    place = new_place(best(total_s), found)
    assert (place.node_id if place else None) == expected


ROOM = Load(memory_free_bytes=2**30)


def peer(node_id: str, standing: PeerStanding = "alive", load: Load | None = None, **state: object) -> Peer:
    return Peer(
        node_id=node_id,
        name=node_id,
        standing=standing,
        since_s=0.0,
        hello=Hello(1, "", Introduction(node_id, "", b"", "", b"", [], 0, 0), 1),
        rtt_s=0.001,
        bytes_per_s=1e6,
        load=load or ROOM,
        models={KEY: ModelState(**state)} if state else {},  # type: ignore[arg-type]
    )


def test_places_are_where_the_model_could_be_warm() -> None:
    peers = [
        peer("cold", run_s={1: 0.02}),
        peer("busy", load=Load(backlog_s=3.0, memory_free_bytes=ROOM.memory_free_bytes)),
        peer("full", load=Load(memory_free_bytes=2**20)),  # not even for a worker of the smallest model
        peer("warm", replicas=1),
        peer("refuses", refused="set aside"),
        peer("suspect", "suspect", run_s={1: 0.02}),
    ]
    call = Call(KEY, 1000, 10.0, ModelState(run_s={1: 0.05}))
    found = places(call, best(1.0), {one.node_id: one for one in peers}, "me", Load(0.1, memory_free_bytes=2**30))
    assert {place.node_id: pytest.approx(place.cost_s) for place in found} == {
        "me": 0.15,
        "cold": 0.022,
        "busy": 3.012,
    }
    assert {place.node_id for place in found if place.holds} == {"me"}


def test_one_load_of_a_model_at_a_time() -> None:
    loads = LoadsUnderWay()
    loads.begins("m", "a", 0.0)
    assert (loads.where("m", 1.0), loads.where("other", 1.0)) == ("a", "")
    loads.ended("m", "b")
    assert loads.where("m", 1.0) == "a"
    assert loads.where("m", GIVE_UP_S) == ""
    loads.ended("m", "a")
    assert loads.where("m", 1.0) == ""


def test_a_place_where_a_load_failed_is_passed_over_for_a_while() -> None:
    loads = LoadsUnderWay()
    found = [Place("a", 0.1, True), Place("b", 0.2, True)]
    loads.begins("m", "a", 0.0)
    loads.failed("m", "a", 1.0)
    assert loads.where("m", 1.0) == ""
    assert [place.node_id for place in loads.untried("m", found, 1.0)] == ["b"]
    assert loads.untried("other", found, 1.0) == found
    assert loads.untried("m", found, 1.0 + PASS_OVER_S) == found


# Copies on disks.

NODES = "abcdefgh"


@pytest.mark.parametrize(
    ("wished", "holders", "able", "fetching", "dropping"),
    [
        pytest.param(2, "ab", NODES, 0, 0, id="as many as wished"),
        pytest.param(3, "a", NODES, 2, 0, id="two too few"),
        pytest.param(3, "a", "ab", 1, 0, id="and only one that can"),
        pytest.param(2, "abcd", NODES, 0, 2, id="two too many"),
        pytest.param(0, "ab", NODES, 0, 1, id="no wish: the last one stays"),
        pytest.param(2, "abc", "a", 0, 0, id="who may not live is not counted on"),
        pytest.param(2, "", NODES, 2, 0, id="nobody holds it: whoever can has to find it"),
    ],
)
def test_so_many_fetch_and_so_many_may_drop(
    wished: int, holders: str, able: Collection[str], fetching: int, dropping: int
) -> None:
    copies = copies_wanted("m", wished, holders=holders, able=able)
    assert (len(copies.to_fetch), len(copies.may_drop)) == (fetching, dropping)
    assert not set(copies.to_fetch) & set(holders)
    assert set(copies.may_drop) <= set(holders)


def test_all_nodes_agree_in_whatever_order_they_know_them() -> None:
    dice = random.Random(1)
    seen = set()
    for _ in range(50):
        able = dice.sample(NODES, len(NODES))
        seen.add(copies_wanted("m", 4, holders={"a"}, able=able))
    assert len(seen) == 1


def test_copies_are_spread_over_the_nodes() -> None:
    counted = dict.fromkeys(NODES, 0)
    for number in range(800):
        for node in copies_wanted(f"model {number}", 2, holders=(), able=NODES).to_fetch:
            counted[node] += 1
    assert all(140 <= count <= 260 for count in counted.values())


def test_random_histories_keep_the_copies() -> None:
    """Nodes die and come back, each acts by itself: the copies come to what is wished."""
    for seed in range(200):
        dice = random.Random(seed)
        disks, up = {"a"}, set(NODES)
        for _ in range(30):
            node = dice.choice(NODES)
            if node in up and len(up) > 3 and (node not in disks or len(disks & up) > 1):
                up.discard(node)
            else:
                up.add(node)
            for actor in dice.sample(sorted(up), len(up)):
                plan = copies_wanted("m", 3, holders=disks & up, able=up)
                if actor in plan.to_fetch:
                    disks.add(actor)
                elif actor in plan.may_drop:
                    disks.discard(actor)
            assert len(disks & up) == 3


def test_what_a_server_that_is_no_node_has_is_copied_nowhere_and_nothing_is_loaded_there() -> None:
    record = Record("local/tiny", "1.0.0", 1, "0" * 64, 0, Signature((), ()), Manifest(), False, "", 0.0)
    server = msgspec.structs.replace(peer("server", replicas=1), outside=True, holdings={KEY: record})
    call = Call(KEY, 0, 0.0, None, 1, None, "free", "")
    own = Load(memory_free_bytes=10**9)
    assert places(call, best(1.0), {"server": server, "node": peer("node", load=own)}, "here", own) == []
    idle = msgspec.structs.replace(peer("server", load=own), outside=True)
    found = places(call, best(1.0), {"server": idle, "node": peer("node", load=own)}, "here", own)
    assert {place.node_id for place in found} == {"here", "node"}
