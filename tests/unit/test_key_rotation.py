"""When a rotation goes on, who does it, and who may change its mesh: tables."""

import math

import pytest

from federation.key_rotation import (
    PATIENCE_S,
    KeyHolder,
    RingTold,
    Step,
    TellAgain,
    join_refusal,
    next_step,
    tell_again,
)

NONE: frozenset[str] = frozenset()


def member(node_id: str, holds: str, shows: str) -> KeyHolder:
    return KeyHolder(node_id, frozenset(holds.split()), shows)


@pytest.mark.parametrize(
    ("keys", "current", "living", "waited_s", "step"),
    [
        ("new", "new", [], 0, Step("done")),
        ("new", "new", [member("a", "new", "new")], 0, Step("done")),
        # A mesh of one waits for nobody.
        ("new old", "old", [], 0, Step("promote", ("new",))),
        ("new old", "new", [], 0, Step("retire", ("old",))),
        # Given to all, then shown by all.
        ("new old", "old", [member("c", "old", "old")], 0, Step("wait", ("new",), ("c",))),
        ("new old", "old", [member("c", "new old", "old"), member("d", "", "old")], 0, Step("wait", ("new",), ("d",))),
        ("new old", "old", [member("c", "new old", "old")], 0, Step("promote", ("new",))),
        ("new old", "new", [member("c", "new old", "old")], 0, Step("wait", ("new",), ("c",))),
        ("new old", "new", [member("c", "new old", "new")], 0, Step("retire", ("old",))),
        # Two rotations at once: the newest of all, and all the others go.
        ("newer new old", "old", [member("c", "newer new old", "old")], 0, Step("promote", ("newer",))),
        ("newer new old", "new", [member("c", "newer new old", "new")], 0, Step("promote", ("newer",))),
        ("newer new old", "newer", [member("c", "newer", "newer")], 0, Step("retire", ("new", "old"))),
        # Who does not take it is not waited for without end.
        ("new old", "old", [member("c", "old", "old")], PATIENCE_S, Step("promote", ("new",))),
        ("new old", "new", [member("c", "old", "old")], PATIENCE_S, Step("retire", ("old",))),
        # The lowest id acts.
        ("new old", "old", [member("a", "new old", "old")], 0, Step("leave")),
        ("new old", "old", [member("a", "new old", "old")], PATIENCE_S, Step("leave")),
    ],
)
def test_a_rotation_goes_on_when_all_living_members_are_there(
    keys: str, current: str, living: list[KeyHolder], waited_s: float, step: Step
) -> None:
    assert next_step("b", keys.split(), current, living, waited_s) == step


def test_a_rotation_comes_to_its_end_in_three_steps_whoever_dies() -> None:
    """Each pass of this loop, the living do what they are told; the first to act dies after its first step."""
    keys, current, acted = ["new", "old"], "old", []
    living = ["a", "b", "c"]
    for _ in range(4):
        for node in living:
            others = [KeyHolder(other, frozenset(keys), current) for other in living if other != node]
            step = next_step(node, keys, current, others, 0)
            if step.act == "promote":
                current = step.key_ids[0]
                living.remove("a")
            elif step.act == "retire":
                keys = [key for key in keys if key not in step.key_ids]
            if step.act in ("promote", "retire"):
                acted.append((node, step.act))
                break
    assert acted == [("a", "promote"), ("b", "retire")]
    assert (keys, current) == (["new"], "new")


def told(node_id: str, ring: bytes, told_s: float, times: int = 0) -> RingTold:
    return RingTold(node_id, ring, told_s, times)


@pytest.mark.parametrize(
    ("living", "now_s", "again"),
    [
        ([], 100.0, TellAgain((), math.inf)),
        ([told("b", b"mine", 0.0)], 100.0, TellAgain((), math.inf)),
        # Who was told a moment ago has time to answer.
        ([told("b", b"other", 99.5)], 100.0, TellAgain((), 100.5)),
        ([told("b", b"", 99.0)], 100.0, TellAgain(("b",), 102.0)),
        # Ever more seldom, once a minute at last.
        ([told("b", b"other", 99.0, 3)], 100.0, TellAgain((), 107.0)),
        ([told("b", b"other", 92.0, 3)], 100.0, TellAgain(("b",), 116.0)),
        ([told("b", b"other", 40.0, 5000)], 100.0, TellAgain(("b",), 160.0)),
        # Each in its own turn; a link that came up and was never told is told at once.
        (
            [told("b", b"other", 99.0), told("c", b"mine", 0.0), told("d", b"", 99.3), told("e", b"", -math.inf)],
            100.0,
            TellAgain(("b", "e"), 100.3),
        ),
    ],
)
def test_who_has_not_said_that_its_ring_is_alike_is_told_again(
    living: list[RingTold], now_s: float, again: TellAgain
) -> None:
    found = tell_again(b"mine", living, now_s)
    assert found.node_ids == again.node_ids
    assert found.next_s == pytest.approx(again.next_s)


@pytest.mark.parametrize(
    ("members", "leave", "words"),
    [
        ([], False, ""),
        ([], True, ""),
        (["attic"], True, ""),
        (["attic"], False, "in a mesh with attic, and would leave it: say --leave"),
        (["d", "c", "b", "a"], False, "with a, b, c and others"),
    ],
)
def test_a_node_changes_its_mesh_just_so_while_it_is_alone(members: list[str], leave: bool, words: str) -> None:
    refusal = join_refusal(members, leave=leave)
    assert words in refusal
    assert bool(refusal) == bool(words)
