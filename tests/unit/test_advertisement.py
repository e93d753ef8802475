"""What a node tells of itself by mDNS: it comes back as it was, stays small, and what is forged is refused."""

import os

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from federation.advertisement import (
    MAX_ADDRESSES,
    MAX_TXT_BYTES,
    SERVICE_TYPE,
    NoIntroductionError,
    instance_name,
    introduction_of,
    node_of_instance,
    txt_of,
    usable_addresses,
)
from federation.identity import node_id_of
from federation.messages import Introduction

PUBLIC_KEY = bytes(range(32))
OWN = Introduction(
    node_id_of(PUBLIC_KEY), "box-1", PUBLIC_KEY, "3f9a", bytes(range(32, 64)), ["10.0.0.7", "fd00::7"], 8004, 8005
)


def on_the_wire(introduction: Introduction) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        SERVICE_TYPE, instance_name(introduction.node_id), port=8004, properties=txt_of(introduction)
    )


def test_what_is_told_comes_back_as_it_was() -> None:
    wire = on_the_wire(OWN)
    node_id = node_of_instance(wire.name)
    assert node_id == OWN.node_id
    assert introduction_of(node_id, wire.properties, OWN.mesh_port, OWN.addresses) == OWN


def test_the_longest_names_stay_below_the_bound() -> None:
    longest = Introduction(OWN.node_id, "n" * 128, PUBLIC_KEY, "k" * 32, os.urandom(32), [], 65535, 65535)
    assert len(on_the_wire(longest).text) < MAX_TXT_BYTES


def test_keys_of_later_versions_are_passed_over() -> None:
    txt: dict[bytes, bytes | None] = {key.encode(): value.encode() for key, value in txt_of(OWN).items()}
    txt |= {b"v": b"2", b"new": b"\xff\x00", b"flag": None}
    assert introduction_of(OWN.node_id, txt, 8004, OWN.addresses) == OWN


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
    txt: dict[bytes, bytes | None] = {key.encode(): value.encode() for key, value in txt_of(OWN).items()}
    with pytest.raises(NoIntroductionError):
        introduction_of(OWN.node_id, txt | {key: value}, 8004, OWN.addresses)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(NoIntroductionError):
        introduction_of(OWN.node_id, on_the_wire(OWN).properties, port, OWN.addresses)


@pytest.mark.parametrize("addresses", [[], ["0.0.0.0"], ["fe80::1"], ["224.0.0.251", "::", "ff02::fb", "box.local"]])
def test_without_an_address_that_can_be_dialled_it_is_refused(addresses: list[str]) -> None:
    with pytest.raises(NoIntroductionError):
        introduction_of(OWN.node_id, on_the_wire(OWN).properties, 8004, addresses)


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


def test_link_local_addresses_stand_last_and_need_an_interface() -> None:
    heard = ["fe80::1%2", "169.254.1.1", "fe80::2", "10.0.0.7", "fd00::7"]
    told = introduction_of(OWN.node_id, on_the_wire(OWN).properties, 8004, heard)
    assert told.addresses == ["10.0.0.7", "fd00::7", "fe80::1%2", "169.254.1.1"]


def test_addresses_are_few_and_each_once_and_keep_their_order() -> None:
    many = [f"10.0.0.{last}" for last in range(1, 200)]
    assert usable_addresses([*many, *many]) == many[:MAX_ADDRESSES]
    assert usable_addresses(["fe80::1%2", "FD00::0:7", "fd00::7", "nonsense"]) == ["fe80::1%2", "fd00::7"]
