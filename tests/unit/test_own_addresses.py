"""What other nodes are told of this box's addresses, and over which interfaces mDNS goes, by tables."""

import pytest

from appliance.core.errors import BadInputError
from federation.advertisement import MAX_ADDRESSES
from federation.interfaces import MAX_INTERFACES, Interface, ip_bound_to, multicast_places, read_interfaces
from federation.own_addresses import own_addresses

LO = Interface("lo", 1, True, ("127.0.0.1", "::1"))
ETH = Interface("eth0", 2, False, ("10.0.0.7", "fd00::7", "fe80::7"))
WIFI = Interface("wlan0", 3, False, ("192.168.1.7",))
UNCONFIGURED = Interface("eth1", 4, False, ("169.254.9.9", "fe80::9"))
VPN = Interface("wg0", 7, False, ("10.8.0.7",))
DOCKER = Interface("docker0", 5, False, ("172.17.0.1",))
VETH = Interface("veth12ab", 6, False, ("fe80::aa",))


@pytest.mark.parametrize(
    ("interfaces", "bound_to", "told"),
    [
        ([LO, ETH], "::", ["10.0.0.7", "fd00::7", "fe80::7"]),
        ([LO, ETH], "0.0.0.0", ["10.0.0.7"]),
        ([LO, DOCKER, VETH, ETH], "::", ["10.0.0.7", "fd00::7", "fe80::7"]),
        ([LO, VPN, DOCKER, WIFI, ETH], "0.0.0.0", ["192.168.1.7", "10.0.0.7", "10.8.0.7"]),
        ([LO, Interface("br-lan", 2, False, ("10.0.0.1",)), DOCKER], "0.0.0.0", ["10.0.0.1"]),
        ([LO, UNCONFIGURED, WIFI], "::", ["192.168.1.7", "169.254.9.9", "fe80::9"]),
        ([LO], "0.0.0.0", ["127.0.0.1"]),
        ([LO], "::", ["127.0.0.1", "::1"]),
        ([LO, DOCKER], "0.0.0.0", ["172.17.0.1"]),
        ([], "0.0.0.0", []),
        ([LO, ETH], "10.0.0.7", ["10.0.0.7"]),
        ([LO, ETH], "127.0.0.1", ["127.0.0.1"]),
    ],
)
def test_the_likeliest_address_is_told_first_and_the_loopback_only_alone(
    interfaces: list[Interface], bound_to: str, told: list[str]
) -> None:
    assert own_addresses(interfaces, bound_to=bound_to) == told


def test_what_the_owner_says_is_told_instead() -> None:
    assert own_addresses([LO, ETH], bound_to="0.0.0.0", advertise=" 203.0.113.9, fd00::9 ,") == [
        "203.0.113.9",
        "fd00::9",
    ]


@pytest.mark.parametrize("said", ["box.local", "10.0.0.7:8004", "0.0.0.0", "10.0.0.0/24", ",".join(["10.0.0.1"] * 9)])
def test_what_is_no_address_is_refused_in_words(said: str) -> None:
    with pytest.raises(BadInputError, match="advertise"):
        own_addresses([LO, ETH], bound_to="0.0.0.0", advertise=said)


def test_no_more_addresses_are_told_than_others_read() -> None:
    many = [Interface(f"eth{n}", n, False, (f"10.0.{n}.1",)) for n in range(2, 50)]
    assert len(own_addresses(many, bound_to="0.0.0.0")) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("interfaces", "bound_to", "places"),
    [
        ([LO], "0.0.0.0", ["127.0.0.1"]),
        ([LO, ETH], "0.0.0.0", ["127.0.0.1", "10.0.0.7", 2]),
        ([LO, DOCKER, VETH, WIFI], "0.0.0.0", ["127.0.0.1", "192.168.1.7", "172.17.0.1", 6]),
        ([], "0.0.0.0", []),
        ([LO, ETH, WIFI], "192.168.1.7", ["192.168.1.7"]),
        ([LO, ETH, WIFI], "fd00::7", [2]),
        ([LO, ETH], "127.0.0.1", ["127.0.0.1"]),
        ([LO, ETH], "::1", ["127.0.0.1"]),
        ([LO, ETH], "10.9.9.9", []),
    ],
)
def test_mdns_goes_where_the_mesh_listens(interfaces: list[Interface], bound_to: str, places: list[str | int]) -> None:
    assert multicast_places(interfaces, bound_to) == places


def test_of_a_hundred_container_interfaces_the_boxs_own_are_kept() -> None:
    veths = [Interface(f"veth{n}", n, False, (f"fe80::{n}",)) for n in range(2, 100)]
    places = multicast_places([*veths, Interface("eth0", 200, False, ("10.0.0.7",)), LO], "0.0.0.0")
    assert places[:2] == ["127.0.0.1", "10.0.0.7"]
    assert len(places) == MAX_INTERFACES


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("10.0.0.7", "10.0.0.7"),
        ("wlan0", "192.168.1.7"),
        ("localhost", "127.0.0.1"),
        ("no.such.name.invalid", "0.0.0.0"),
        ("x" * 300, "0.0.0.0"),
    ],
)
def test_where_a_mesh_listens_may_be_said_by_a_name(host: str, address: str) -> None:
    assert ip_bound_to(host, [LO, ETH, WIFI]) == address


def test_this_boxs_interfaces_are_read() -> None:
    (loopback,) = [interface for interface in read_interfaces() if interface.loopback]
    assert "127.0.0.1" in loopback.addresses
