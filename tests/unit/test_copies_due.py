"""Which nodes owe a copy to a wish: a table over meshes of four."""

import pytest

from appliance.core.copy_wish import CopyWish, parse_places, read_wish
from appliance.core.errors import BadInputError
from appliance.routing.copies_due import Memory, Place, Settling, copies_due, is_meant
from federation.peer import PeerStanding


def _mesh(**standings: PeerStanding) -> list[Place]:
    tags = {"a": ("gpu",), "b": ("gpu", "attic")}
    return [
        Place(f"id-{name}", name, tags.get(name, ()), standings.get(name, "alive")) for name in ("a", "b", "c", "d")
    ]


@pytest.mark.parametrize(
    ("replicas", "on", "holders", "dead", "refusing", "owed"),
    [
        (0, (), "a", "", "", 0),
        (1, (), "a", "", "", 0),
        (2, (), "a", "", "", 1),
        (3, (), "a", "", "", 2),
        (9, (), "a", "", "", 3),
        (2, (), "ab", "", "", 0),
        (2, (), "a", "bc", "", 1),
        (3, (), "a", "bc", "", 1),
        (3, (), "a", "", "bcd", 0),
        (0, ("b",), "a", "", "", 1),
        (0, ("b", "c"), "a", "", "", 2),
        (0, ("a", "b"), "a", "", "", 1),
        (0, ("id-c",), "a", "", "", 1),
        (0, ("tag:gpu",), "c", "", "", 2),
        (1, ("tag:gpu",), "c", "", "", 1),
        (1, ("tag:gpu",), "b", "", "", 0),
        (0, ("nobody",), "a", "", "", 0),
        (0, ("b",), "a", "b", "", 0),
    ],
)
def test_so_many_copies_are_owed(
    replicas: int, on: tuple[str, ...], holders: str, dead: str, refusing: str, owed: int
) -> None:
    places = _mesh(**dict.fromkeys(dead, "dead"))  # type: ignore[arg-type]
    ids = lambda names: {f"id-{name}" for name in names}  # noqa: E731
    due = copies_due("acme/x:1.0.0@d", CopyWish(replicas, on), places, ids(holders), ids(refusing))
    assert len(due.to_fetch) == owed
    assert not set(due.to_fetch) & (ids(holders) | ids(dead) | ids(refusing))


def test_every_node_comes_to_the_same_end() -> None:
    places = _mesh()
    assert {copies_due("k", CopyWish(2), order, {"id-a"}, ()).to_fetch for order in (places, places[::-1])} == {
        copies_due("k", CopyWish(2), places, {"id-a"}, ()).to_fetch
    }


def test_a_holder_that_was_lost_counts_for_a_while() -> None:
    memory = Memory()
    assert memory.holders("k", {"a", "b"}, 0.0) == {"a", "b"}
    assert memory.holders("k", {"a"}, 5.0) == {"a", "b"}
    assert memory.holders("k", {"a"}, 11.0) == {"a"}
    assert memory.holders("other", {"b"}, 11.0) == {"b"}


def test_places_are_names_ids_and_tags() -> None:
    (a, b, *_) = _mesh()
    assert parse_places(" a, tag:gpu ,,a") == ("a", "tag:gpu")
    assert is_meant(b, parse_places("tag:attic"))
    assert not is_meant(a, parse_places("tag:attic"))


@pytest.mark.parametrize("text", ["tag:", "a\nb", "x" * 200, ",".join(f"n{i}" for i in range(100))])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_places(text)


@pytest.mark.parametrize("value", ["", "{", "[]", '{"replicas": -1}', '{"replicas": 5000}', '{"on": 3}'])
def test_a_wish_that_says_nothing_is_none(value: str) -> None:
    assert read_wish(value) == CopyWish()


def test_who_has_just_joined_others_or_come_back_makes_no_copies_before_they_told_what_they_hold() -> None:
    settling = Settling(5.0, now_s=100.0)
    looks = [(104.0, False), (106.0, False), (107.0, True), (111.0, False), (112.5, False)]
    settled = [settling.is_settled(alone=alone, now_s=now_s) for now_s, alone in looks]
    assert settled == [False, True, False, False, True]
