"""Why an address cannot be had is said in words, before a front tries and fails in its library's."""

import socket

import pytest

from appliance.core.addresses import Address
from appliance.core.listening import why_not


@pytest.mark.parametrize(("kind", "datagrams"), [(socket.SOCK_STREAM, False), (socket.SOCK_DGRAM, True)])
def test_a_port_that_another_has_is_said_to_be_anothers(kind: socket.SocketKind, datagrams: bool) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if not datagrams:
            other.listen()
        address = Address("127.0.0.1", other.getsockname()[1])
        assert why_not(address, datagrams=datagrams) == "another program has it"
    assert why_not(address, datagrams=datagrams) == ""


def test_what_no_box_can_have_says_why() -> None:
    assert why_not(Address("192.0.2.1", 0)) == "this box has no such address"
    assert why_not(Address("not a host", 0)).startswith("its host is not known: ")
    assert why_not(Address("127.0.0.1", 0)) == ""


def test_all_addresses_of_a_name_are_tried_and_said_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(host: str, port: int, **_asked: object) -> list[object]:
        hosts = ["127.0.0.1", "192.0.2.1"] if host == "mixed" else ["192.0.2.1", "198.51.100.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    assert why_not(Address("elsewhere", 0)) == "this box has no such address"
    assert why_not(Address("mixed", 0)) == ""
    said = "127.0.0.1: it could be had; 192.0.2.1: this box has no such address"
    assert why_not(Address("mixed", 0), every=True) == said


def test_an_address_of_a_family_that_the_kernel_does_not_speak_is_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`localhost` is ::1 as well, also where the kernel has no IPv6; servers pass over it."""
    found = [
        (200, socket.SOCK_STREAM, 6, "", ("::1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert why_not(Address("localhost", 0), every=True) == ""
    del found[1]
    assert "not supported" in why_not(Address("localhost", 0), every=True)
