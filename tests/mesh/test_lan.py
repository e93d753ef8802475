"""The tests' own LAN: what its hosts can and cannot say to each other."""

import socket
import struct
from pathlib import Path

import psutil
import pytest

from tests.mesh.lan import Host, Lan

_PORT = 5000
_MDNS = "224.0.0.251"
_MDNS_IPV6 = "ff02::fb"


def listening(host: Host, family: int = socket.AF_INET) -> socket.socket:
    """A socket for datagrams to this host's port; whoever waits for one that never comes fails."""
    with host.entered():
        made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(10)
    made.bind(("", _PORT))
    return made


def say(host: Host, to: str, what: bytes) -> None:
    with host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(what, (to, _PORT))


def heard(host: Host, sock: socket.socket) -> list[bytes]:
    """What has come before this, which it learns by a word to itself: datagrams of one host keep their order."""
    say(host, host.ipv4, b"that is all")
    words: list[bytes] = []
    while (word := sock.recv(100)) != b"that is all":
        words.append(word)
    return words


def received(sock: socket.socket, size_bytes: int) -> bytes:
    """So many bytes; fails where they do not come. A socket with a timeout does not heed MSG_WAITALL."""
    with sock.makefile("rb") as stream:
        return stream.read(size_bytes)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_hosts_reach_each_other_over_both_families(lan: Lan, family: int) -> None:
    a, b = lan.host("a"), lan.host("b")
    address = b.ipv6 if family == socket.AF_INET6 else b.ipv4
    with b.entered():
        server = socket.create_server((address, _PORT), family=family)
    with server, a.entered(), socket.create_connection((address, _PORT), timeout=10) as client:
        served, _ = server.accept()
        with served:
            sent = bytes(range(256)) * 100  # more than one segment
            served.sendall(sent)
            assert received(client, len(sent)) == sent


def test_each_host_has_a_loopback_of_its_own(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    with listening(a) as at_a, listening(b) as at_b:
        say(a, "127.0.0.1", b"within")
        assert at_a.recv(100) == b"within"
        assert heard(b, at_b) == []


def test_a_multicast_reaches_every_other_host(lan: Lan) -> None:
    hosts = [lan.host(name) for name in "abc"]
    sockets = [listening(host) for host in hosts[1:]]
    for host, sock in zip(hosts[1:], sockets, strict=True):
        with host.entered():
            joined = socket.inet_aton(_MDNS) + socket.inet_aton(host.ipv4)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    say(hosts[0], _MDNS, b"who is there?")
    assert [sock.recv(100) for sock in sockets] == [b"who is there?"] * 2
    for sock in sockets:
        sock.close()


def test_a_multicast_of_ipv6_reaches_every_other_host(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    with listening(b, socket.AF_INET6) as sock:
        with b.entered():
            group = socket.inet_pton(socket.AF_INET6, _MDNS_IPV6) + struct.pack("@I", socket.if_nametoindex("lan0"))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        with a.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"who is there?", (_MDNS_IPV6, _PORT, 0, socket.if_nametoindex("lan0")))
        assert sock.recv(100) == b"who is there?"


def test_a_host_that_is_plugged_in_later_is_reached(lan: Lan) -> None:
    a = lan.host("a")
    with listening(a) as at_a:
        say(lan.host("late"), a.ipv4, b"here I am")
        assert at_a.recv(100) == b"here I am"


def test_a_link_that_is_down_one_way_carries_the_other(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    with listening(a) as at_a, listening(b) as at_b:
        say(a, b.ipv4, b"hello")  # so that both know each other's hardware address
        assert at_b.recv(100) == b"hello"
        lan.link(a, b, down=True)
        say(a, b.ipv4, b"lost")
        say(b, a.ipv4, b"carried")
        assert at_a.recv(100) == b"carried"
        lan.link(a, b)
        say(a, b.ipv4, b"again")
        assert at_b.recv(100) == b"again"


def test_a_partition_parts_its_sides_alone_and_can_be_healed(lan: Lan) -> None:
    a, b, c = (lan.host(name) for name in "abc")
    with listening(b) as at_b:
        for host in (a, c):
            say(host, b.ipv4, b"hello")
            assert at_b.recv(100) == b"hello"
        lan.cut_off(a)
        say(a, b.ipv4, b"lost")
        say(c, b.ipv4, b"from c")
        assert at_b.recv(100) == b"from c"
        lan.heal()
        say(a, b.ipv4, b"from a")
        assert at_b.recv(100) == b"from a"


def test_what_was_sent_first_over_a_slow_link_arrives_after_what_came_over_a_quick_one(lan: Lan) -> None:
    a, b, c = (lan.host(name) for name in "abc")
    with listening(c) as at_c:
        for host in (a, b):
            say(host, c.ipv4, b"hello")
            assert at_c.recv(100) == b"hello"
        lan.link(a, c, delay_s=0.5)
        say(a, c.ipv4, b"slow")
        say(b, c.ipv4, b"quick")
        assert [at_c.recv(100), at_c.recv(100)] == [b"quick", b"slow"]


def test_a_transfer_survives_loss_and_a_limited_rate(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    sent = bytes(range(256)) * 400  # what a socket takes without anyone reading
    with b.entered():
        server = socket.create_server((b.ipv4, _PORT))
    with server, a.entered(), socket.create_connection((b.ipv4, _PORT), timeout=10) as client:
        served, _ = server.accept()
        served.settimeout(10)
        lan.link(a, b, loss=0.2)
        lan.rate(b, 12.5e6)
        with served:
            client.sendall(sent)
            assert received(served, len(sent)) == sent
    (carried,) = [each for each in lan.traffic() if (each.source, each.destination) == ("a", "b")]
    assert carried.dropped > 0
    assert carried.size_bytes > len(sent)


def fail_in_a_lan() -> None:
    with Lan() as lan, lan.host("a").entered():
        lan.host("b")
        raise ZeroDivisionError


def test_nothing_is_left_of_a_lan_that_fails(namespaces: None) -> None:
    own = psutil.Process()
    before, descriptors = own.children(), own.num_fds()
    network = Path("/proc/thread-self/ns/net").readlink()
    with pytest.raises(ZeroDivisionError):
        fail_in_a_lan()
    assert own.children() == before
    assert own.num_fds() == descriptors
    assert Path("/proc/thread-self/ns/net").readlink() == network
