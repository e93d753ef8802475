"""Whom mDNS has shown: each is handed on once, others are shown to people, and forged thousands push out nobody."""

import os

from federation.identity import node_id_of
from federation.messages import Introduction
from federation.sightings import FORGET_OTHERS_S, MAX_OTHERS, MAX_OURS, REPEAT_S, Sightings


def node(name: str, key_id: str = "ours", address: str = "10.0.0.1") -> Introduction:
    public_key = name.encode().ljust(32)
    return Introduction(node_id_of(public_key), name, public_key, key_id, os.urandom(32), [address], 8004, 8005)


def test_a_node_is_handed_on_once_for_its_announcements_on_all_interfaces() -> None:
    sightings, peer = Sightings(), node("box")
    heard = [sightings.heard(peer, ours=True, now_s=now_s) for now_s in (1.0, 1.001, 1.0 + REPEAT_S / 2)]
    assert heard == [True, False, False]


def test_a_node_that_announces_itself_again_later_is_handed_on_again() -> None:
    sightings, peer = Sightings(), node("box")
    assert sightings.heard(peer, ours=True, now_s=1.0)
    assert sightings.heard(peer, ours=True, now_s=1.0 + REPEAT_S)


def test_a_node_whose_address_changed_is_handed_on_at_once() -> None:
    sightings = Sightings()
    assert sightings.heard(node("box"), ours=True, now_s=1.0)
    assert sightings.heard(node("box", address="10.0.0.2"), ours=True, now_s=1.0)


def test_a_node_that_took_its_advertisement_back_is_news_when_it_returns() -> None:
    sightings, peer = Sightings(), node("box")
    sightings.heard(peer, ours=True, now_s=1.0)
    sightings.gone(peer.node_id)
    assert sightings.heard(peer, ours=True, now_s=1.0)


def test_other_meshes_are_told_by_their_keys_and_never_handed_on() -> None:
    sightings = Sightings()
    for peer in (node("b", "red"), node("c", "blue"), node("a", "red")):
        assert not sightings.heard(peer, ours=False, now_s=1.0)
    told = [(mesh.key_id, [peer.name for peer in mesh.nodes]) for mesh in sightings.other_meshes(2.0)]
    assert told == [("blue", ["c"]), ("red", ["a", "b"])]


def test_a_node_that_joined_this_mesh_is_in_no_other() -> None:
    sightings = Sightings()
    sightings.heard(node("box", "red"), ours=False, now_s=1.0)
    assert sightings.heard(node("box"), ours=True, now_s=2.0)
    assert sightings.other_meshes(3.0) == []


def test_what_was_not_heard_for_a_records_life_is_no_longer_in_sight() -> None:
    sightings = Sightings()
    sightings.heard(node("box", "red"), ours=False, now_s=1.0)
    assert sightings.other_meshes(1.0 + FORGET_OTHERS_S) == []


def test_thousands_of_forged_names_take_bounded_room_and_push_out_none_of_ours() -> None:
    sightings, peer = Sightings(), node("box")
    sightings.heard(peer, ours=True, now_s=0.0)
    for number in range(5000):
        sightings.heard(node(f"forged{number}", f"key{number}"), ours=False, now_s=1.0 + number)
    others = sightings.other_meshes(5001.0)
    assert len(others) == MAX_OTHERS
    assert not sightings.heard(peer, ours=True, now_s=REPEAT_S / 2)


def test_a_member_that_floods_takes_bounded_room() -> None:
    sightings = Sightings()
    handed_on = [sightings.heard(node(f"box{number}"), ours=True, now_s=1.0) for number in range(MAX_OURS + 100)]
    assert sum(handed_on) == sightings.count_of_ours == MAX_OURS
