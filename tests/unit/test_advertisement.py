"""What a node tells of itself by mDNS: it comes back as it was, stays small, and what is forged is refused."""

import os

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from federation.advertisement import (
    MAX_ADDRESSES,
    MAX_TXT_BYTES,
    SERVICE_TYPE,
    Advertised,
    NoIntroductionError,
    advertised,
    instance_name,
    node_of_instance,
    txt_of,
    usable_addresses,
)
from federation.identity import node_id_of
from federation.keyring import mesh_key
from federation.messages import Introduction

PUBLIC_KEY = bytes(range(32))
KEY, OTHER = mesh_key(bytes(32)), mesh_key(bytes(range(32)))
OWN = Introduction(
    node_id_of(PUBLIC_KEY), "box-1", PUBLIC_KEY, KEY.id, bytes(range(32, 64)), ["10.0.0.7", "fd00::7"], 8004, 8005
)


def on_the_wire(introduction: Introduction) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        SERVICE_TYPE, instance_name(introduction.node_id), port=8004, properties=txt_of(introduction, KEY)
    )


def read(told: AsyncServiceInfo, *heard: str, **changed: str) -> Advertised:
    node_id = node_of_instance(told.name)
    assert node_id is not None
    assert told.port is not None
    txt = told.properties | {name.encode(): value.encode() for name, value in changed.items()}
    return advertised(node_id, txt, told.port, heard)


def test_what_is_told_comes_back_as_it_was_and_sealed() -> None:
    found = read(on_the_wire(OWN))
    assert found.introduction == OWN
    assert found.is_sealed_with(KEY)
    assert not found.is_sealed_with(OTHER)


@pytest.mark.parametrize(
    "changed", [{"a": "10.9.9.9"}, {"n": "box-2"}, {"b": "9"}, {"c": "00" * 32}, {"m": ""}, {"m": "0" * 32}, {"x": "y"}]
)
def test_whoever_changes_a_thing_breaks_the_seal(changed: dict[str, str]) -> None:
    assert not read(on_the_wire(OWN), **changed).is_sealed_with(KEY)


def test_another_port_breaks_the_seal() -> None:
    moved = on_the_wire(OWN)
    moved.port = 9
    assert not read(moved).is_sealed_with(KEY)


def test_addresses_that_anyone_may_add_in_dns_are_not_believed() -> None:
    assert read(on_the_wire(OWN), "10.9.9.9", "fd00::9").introduction.addresses == OWN.addresses


def test_the_longest_names_stay_below_the_bound_and_the_first_addresses_fit() -> None:
    many = [f"fd00:1111:2222:3333:4444:5555:6666:777{last}" for last in range(8)]
    longest = Introduction(OWN.node_id, "n" * 128, PUBLIC_KEY, KEY.id, os.urandom(32), many, 65535, 65535)
    wire = on_the_wire(longest)
    assert len(wire.text) <= MAX_TXT_BYTES
    assert read(wire).introduction.addresses == many[:1]
    short = Introduction(OWN.node_id, "box", PUBLIC_KEY, KEY.id, os.urandom(32), many, 65535, 65535)
    assert read(on_the_wire(short)).introduction.addresses == many[:4]


def test_keys_of_later_versions_are_passed_over() -> None:
    txt = on_the_wire(OWN).properties | {b"v": b"2", b"new": b"\xff\x00", b"flag": None}
    assert advertised(OWN.node_id, txt, 8004, []).introduction == OWN


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"k", b""),
        (b"k", None),
        (b"k", b"zz" * 32),
        (b"k", b"00" * 32),  # another node's
        (b"k", b"00" * 31),
        (b"k", b"\xff" * 64),
        (b"c", b"00" * 33),
        (b"c", "\u0660".encode() * 64),  # digits, but not ours
        (b"v", b"0"),
        (b"v", b"one"),
        (b"v", b"9" * 4000),
        (b"n", b""),
        (b"n", b"n" * 129),
        (b"n", b"a\x1b[31m"),
        (b"n", b"../../etc"),
        (b"i", b"k" * 33),
        (b"i", b"a b"),
        (b"b", b"65536"),
        (b"b", b"-1"),
        (b"b", b" 80"),
    ],
)
def test_what_no_node_would_tell_is_refused(key: bytes, value: bytes | None) -> None:
    with pytest.raises(NoIntroductionError):
        advertised(OWN.node_id, on_the_wire(OWN).properties | {key: value}, 8004, [])


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(NoIntroductionError):
        advertised(OWN.node_id, on_the_wire(OWN).properties, port, [])


@pytest.mark.parametrize("told", ["", "0.0.0.0", "fe80::1", "224.0.0.251,::,ff02::fb,box.local", "," * 300, "\xff"])
def test_without_an_address_that_can_be_dialled_it_is_refused(told: str) -> None:
    with pytest.raises(NoIntroductionError):
        read(on_the_wire(OWN), a=told)


@pytest.mark.parametrize(
    "name",
    [
        SERVICE_TYPE,
        f"box.{SERVICE_TYPE}",
        f"ingle-{'g' * 32}.{SERVICE_TYPE}",
        f"ingle-{'a' * 33}.{SERVICE_TYPE}",
        f"ingle-{'a' * 32}._http._tcp.local.",
        f"x.ingle-{'a' * 32}.{SERVICE_TYPE}",
        f"ingle-{'a' * 32}.{SERVICE_TYPE}\n",
        "",
    ],
)
def test_only_names_that_nodes_give_themselves_are_looked_at(name: str) -> None:
    assert node_of_instance(name) is None


def test_an_instance_is_found_however_its_name_is_written() -> None:
    assert node_of_instance(instance_name(OWN.node_id).upper()) == OWN.node_id


def test_a_link_local_address_is_good_only_with_the_interface_that_it_was_heard_at() -> None:
    told = read(on_the_wire(OWN), "fe80::1%2", "fe80::3%2", a="10.0.0.7,fe80::1,fe80::2,169.254.1.1")
    assert told.introduction.addresses == ["10.0.0.7", "fe80::1%2", "169.254.1.1"]


def test_addresses_are_few_and_each_once_and_keep_their_order() -> None:
    many = [f"10.0.0.{last}" for last in range(1, 200)]
    assert usable_addresses([*many, *many]) == many[:MAX_ADDRESSES]
    assert usable_addresses(["fe80::1%2", "FD00::0:7", "fd00::7", "nonsense"]) == ["fe80::1%2", "fd00::7"]
