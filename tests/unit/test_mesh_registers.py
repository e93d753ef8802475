"""Last-writer-wins registers under a hybrid clock: who stands, who is forgotten, and clocks that go wrong."""

import itertools
import random

import pytest

from federation.hybrid_clock import MAX_AHEAD_MS, MAX_COUNTER, MAX_MS, HybridClock
from federation.messages import Register, Stamp
from federation.registers import MAX_REGISTERS, TOMBSTONE_S, RegisterSet, stands_over

A, B = "a" * 32, "b" * 32
NOW_S = 1_790_000_000.0
NOW_MS = int(NOW_S * 1000)


class Wall:
    def __init__(self, unix_s: float = NOW_S) -> None:
        self.unix_s = unix_s

    def __call__(self) -> float:
        return self.unix_s


def register_set(wall: Wall | None = None, node_id: str = A) -> RegisterSet:
    wall = wall or Wall()
    return RegisterSet(HybridClock(node_id, wall), wall)


def alias(value: str = "1.0.0", *, ms: int = NOW_MS, counter: int = 0, node_id: str = A, key: str = "prod") -> Register:
    return Register("alias", "acme/m", key, Stamp(ms, counter, node_id), value)


def test_stamps_of_one_clock_grow_though_the_wall_stands_still_or_goes_back() -> None:
    wall = Wall()
    clock = HybridClock(A, wall)
    stamps = [clock.stamp()]
    for step_s in (0.0, 0.0, 1.0, -0.5, -30.0, 0.0, 60.0):
        wall.unix_s += step_s
        stamps.append(clock.stamp())
    assert stamps == sorted(set(stamps))


def test_a_stamp_that_was_seen_is_below_those_that_follow() -> None:
    clock = HybridClock(A, Wall())
    seen = Stamp(NOW_MS + 5000, 7, B)
    clock.saw(seen)
    assert clock.stamp() > seen


def test_a_clock_that_is_wildly_ahead_drags_nobody() -> None:
    clock = HybridClock(A, Wall())
    clock.saw(Stamp(NOW_MS + MAX_AHEAD_MS + 1, 0, B))
    assert clock.stamp().ms == NOW_MS


def test_a_wall_clock_that_was_far_ahead_and_put_right_is_followed() -> None:
    wall = Wall(NOW_S + 1e6)
    clock = HybridClock(A, wall)
    clock.stamp()
    wall.unix_s = NOW_S
    assert clock.stamp().ms == NOW_MS


@pytest.mark.parametrize(
    "known",
    [
        Stamp(NOW_MS + 10**10, 3, B),
        Stamp(NOW_MS, 0, B),
        Stamp(5, 0, B),
        Stamp(NOW_MS + 10**10, MAX_COUNTER, B),
    ],
)
def test_whoever_saw_a_value_can_write_over_it_whatever_the_clocks_say(known: Stamp) -> None:
    clock = HybridClock(A, Wall())
    assert clock.stamp(known) > known
    assert clock.stamp().ms == NOW_MS


def test_the_last_write_stands_in_whatever_order_they_come() -> None:
    writes = [
        alias("1.0.0", ms=NOW_MS),
        alias("1.1.0", ms=NOW_MS, counter=1),
        alias("1.2.0", ms=NOW_MS, counter=1, node_id=B),
        alias("1.3.0", ms=NOW_MS, counter=1, node_id=B),  # a copied data folder: one stamp, two values
    ]
    hashes = set()
    for order in itertools.permutations(writes):
        registers = register_set()
        for write in order:
            registers.merge([write])
        known = registers.get("alias", "acme/m", "prod")
        assert known is not None
        assert known.value == "1.3.0"
        hashes.add(registers.hash.total)
    assert len(hashes) == 1


def test_of_what_is_merged_only_the_news_is_given() -> None:
    registers = register_set()
    assert registers.merge([alias()]) == [alias()]
    assert registers.merge([alias(), alias(ms=1), alias(key="test")]) == [alias(key="test")]
    assert len(registers) == 2


def test_a_write_is_above_what_is_there() -> None:
    registers = register_set()
    future = alias(ms=NOW_MS + 10**9, node_id=B)
    registers.merge([future])
    written = registers.write("alias", "acme/m", "prod", "2.0.0")
    assert stands_over(written, future)
    assert written.stamp.ms == future.stamp.ms
    assert registers.write("alias", "acme/m", "other", "2.0.0").stamp.ms == NOW_MS


def test_tombstones_are_kept_thirty_days_and_not_taken_up_again() -> None:
    wall = Wall()
    registers = register_set(wall)
    removal = Register("removed", "acme/m", "1.0.0@d", Stamp(NOW_MS, 0, A), "d" * 64)
    emptied, standing = alias("", key="gone"), alias()
    registers.merge([removal, emptied, standing])
    wall.unix_s += TOMBSTONE_S - 1
    assert registers.forget_tombstones() == []
    wall.unix_s += 2
    assert set(registers.forget_tombstones()) == {
        ("removed", "acme/m", "1.0.0@d"),
        ("alias", "acme/m", "gone"),
    }
    assert registers.merge([removal, emptied]) == []
    assert list(registers.of("acme/m").values()) == [standing]
    only = register_set()
    only.merge([standing])
    assert registers.hash.total == only.hash.total


@pytest.mark.parametrize(
    "wrong",
    [
        alias(ms=-1),
        alias(ms=MAX_MS + 1),
        alias(counter=MAX_COUNTER + 1),
        alias(node_id="nobody"),
        alias(key="x" * 200),
        alias("x" * 100_000),
        Register("alias", "no name", "prod", Stamp(NOW_MS, 0, A), "1.0.0"),
        Register("", "acme/m", "prod", Stamp(NOW_MS, 0, A), "1.0.0"),
    ],
)
def test_what_cannot_be_meant_is_not_taken(wrong: Register) -> None:
    registers = register_set()
    assert registers.merge([wrong]) == []
    assert registers.hash.total == b""


def test_kinds_of_later_releases_are_kept_and_handed_on() -> None:
    registers = register_set()
    later = Register("quota", "whatever it is about", "k", Stamp(NOW_MS, 0, B), "v")
    assert registers.merge([later]) == [later]


def test_there_is_a_bound_and_what_is_known_can_still_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.registers.MAX_REGISTERS", 3)
    registers = register_set()
    assert len(registers.merge(alias(key=f"k{number}") for number in range(9))) == 3
    assert registers.merge([alias("9.9.9", key="k1", counter=1)])
    assert MAX_REGISTERS > 3


def test_there_is_a_bound_on_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.registers.MAX_REGISTERS_CHARS", 1000)
    registers = register_set()
    assert len(registers.merge(alias("v" * 400, key=f"k{number}") for number in range(9))) == 2
    assert registers.merge([alias("", key="k1", counter=1)])
    assert len(registers.merge(alias("v" * 400, key=f"k{number}") for number in range(9))) == 1


def test_any_two_sets_that_swap_what_differs_are_alike() -> None:
    dice = random.Random(3)
    for _ in range(30):
        one, two = register_set(), register_set(node_id=B)
        for registers in (one, two):
            for _ in range(40):
                key, ms = f"k{dice.randrange(30)}", NOW_MS + dice.randrange(5)
                registers.merge([alias(str(dice.randrange(3)), ms=ms, node_id=dice.choice((A, B)), key=key)])
        differing = one.hash.differing(two.hash.buckets)
        of_one = [register for bucket in differing for register in one.in_bucket(bucket)]
        of_two = [register for bucket in differing for register in two.in_bucket(bucket)]
        one.merge(of_two)
        two.merge(of_one)
        assert one.hash.total == two.hash.total
        assert one.of("acme/m") == two.of("acme/m")
