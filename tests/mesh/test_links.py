"""When a frame arrives, by the link's conditions; whose frame leaves a host next."""

from itertools import pairwise

import pytest

from tests.mesh.links import Conditions, Link, Wire
from tests.mesh.uplinks import FLOW_BYTES, Uplink, flow_of


def link(**conditions: float) -> Link:
    made = Link("seed")
    made.change(Conditions(**conditions))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("conditions", "arrives_s"),
    [
        ({}, 10.0),
        ({"delay_s": 0.25}, 10.25),
        ({"rate_bytes_per_s": 2000.0}, 10.5),
        ({"rate_bytes_per_s": 2000.0, "delay_s": 0.25}, 10.75),
        ({"down": True}, None),
        ({"loss": 1.0}, None),
    ],
)
def test_a_frame_arrives_as_the_conditions_say(conditions: dict[str, float], arrives_s: float | None) -> None:
    assert link(**conditions).arrives_s(10.0, 1000) == arrives_s


def test_frames_keep_their_order_whatever_the_jitter() -> None:
    shaken = link(delay_s=0.01, jitter_s=0.05)
    times = [shaken.arrives_s(0.001 * number, 100) or 0.0 for number in range(200)]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(arrives_s - 0.001 * number >= 0.01 for number, arrives_s in enumerate(times))
    assert len({round(arrives_s, 6) for arrives_s in times}) > 10


def test_what_is_lost_follows_from_the_seed() -> None:
    one, same, other = link(loss=0.2), link(loss=0.2), Link("another")
    other.change(Conditions(loss=0.2))
    fates = [[each.arrives_s(0.0, 1) is None for _ in range(1000)] for each in (one, same, other)]
    assert fates[0] == fates[1] != fates[2]
    assert 150 < sum(fates[0]) < 250
    assert one.dropped == sum(fates[0])
    assert one.frames == 1000 - one.dropped


def test_a_wire_carries_one_frame_after_the_other_and_drops_what_its_queue_cannot_take() -> None:
    wire = Wire(1000.0, queue_bytes=1000)
    assert [wire.through_s(0.0, 500) for _ in range(4)] == [0.5, 1.0, 1.5, None]
    assert wire.through_s(1.5, 500) == 2.0


def test_a_small_flow_leaves_before_a_long_ones_queue() -> None:
    uplink = Uplink()
    for number in range(10):
        uplink.put(bytes([number]) * 1514, b"long")
    assert uplink.take() == bytes(1514)
    uplink.put(b"small", b"call")
    assert uplink.take() == b"small"
    assert uplink.take() == bytes([1]) * 1514


def test_two_long_flows_share_alike() -> None:
    uplink = Uplink()
    for _ in range(100):
        uplink.put(b"a" * 1514, b"a")
        uplink.put(b"b" * 757, b"b")
    taken = [uplink.take() or b"" for _ in range(90)]
    shares = [sum(len(frame) for frame in taken if frame[:1] == flow) for flow in (b"a", b"b")]
    assert abs(shares[0] - shares[1]) <= 2 * 1514


def test_a_flow_that_fills_its_queue_loses_its_own_frames_alone() -> None:
    uplink = Uplink()
    assert all(uplink.put(bytes(1024), b"long") for _ in range(FLOW_BYTES // 1024))
    assert not uplink.put(bytes(1024), b"long")
    assert uplink.put(bytes(1024), b"other")


def test_an_uplink_with_nothing_waiting_has_nothing() -> None:
    uplink = Uplink()
    assert uplink.take() is None
    uplink.put(b"x", b"")
    assert [uplink.take(), uplink.take()] == [b"x", None]


def test_flows_are_told_apart_by_addresses_and_ports() -> None:
    head = bytes(12) + b"\x08\x00" + b"\x45" + bytes(8) + b"\x06" + bytes(2) + b"\x0a\x4d\x00\x01\x0a\x4d\x00\x02"
    one, other = head + b"\x00\x50\x10\x00" + bytes(20), head + b"\x00\x51\x10\x00" + bytes(20)
    assert flow_of(one) == flow_of(one + b"more") != flow_of(other)
    assert flow_of(bytes(12) + b"\x08\x06" + bytes(28)) == b""
