"""Nodes find each other over a network whose cables, addresses and ports are as they are in offices and cellars; and
where they do not, the doctor says why."""

import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.identity import load_identity
from federation.keyring import Keyring
from tests.mesh import interfaces
from tests.mesh.lan import INTERFACE, ROOT, Host, Lan
from tests.mesh.namespaces import Namespace

TIMEOUT_S = 30


class Discovering:
    """tests/mesh/discovering.py on a host."""

    def __init__(self, place: Host | Namespace, folder: Path, *arguments: str) -> None:
        command = ["timeout", str(TIMEOUT_S), sys.executable, "-m", "tests.mesh.discovering", str(folder), *arguments]
        with place.entered():
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )

    def says(self, *keys: str, **expected: object) -> dict[str, Any]:
        """The next line that has these keys and says this; fails where it ends first."""
        assert self._process.stdout is not None
        heard = []
        for line in self._process.stdout:
            told: dict[str, Any] = json.loads(line)
            heard.append(told)
            if told.keys() >= {*keys, *expected} and told | expected == told:
                return told
        raise AssertionError(f"it did not say {expected}, only {heard}")

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(TIMEOUT_S)


@pytest.fixture
def discovering(tmp_path: Path) -> Iterator[Callable[..., Discovering]]:
    """Starts nodes of one mesh: `discovering(host, "a")`."""
    Keyring(tmp_path)
    started: list[Discovering] = []

    def start(place: Host | Namespace, name: str, bound_to: str = "0.0.0.0") -> Discovering:
        started.append(Discovering(place, tmp_path, name, bound_to))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_hosts_find_each_other_at_the_addresses_that_they_have(
    lan: Lan, discovering: Callable[..., Discovering]
) -> None:
    hosts = {name: lan.host(name) for name in "abc"}
    nodes = {name: discovering(host, name) for name, host in hosts.items()}
    for name, node in nodes.items():
        waited_for = set(hosts) - {name}
        while waited_for:
            told = node.says()
            if told.get("met") in waited_for:
                assert told["addresses"] == [hosts[told["met"]].ipv4]
                waited_for.remove(told["met"])


def test_what_is_bound_to_all_addresses_of_both_families_tells_those_of_both(
    lan: Lan, discovering: Callable[..., Discovering]
) -> None:
    a, b = lan.host("a"), lan.host("b")
    node = discovering(a, "a", "::")
    discovering(b, "b", "::")
    assert {b.ipv4, b.ipv6} <= set(node.says(met="b")["addresses"])


def test_where_there_is_only_ipv6_they_find_each_other_too(lan: Lan, discovering: Callable[..., Discovering]) -> None:
    a, b = lan.host("a"), lan.host("b")
    node = discovering(a, "a", a.ipv6)
    discovering(b, "b", b.ipv6)
    assert node.says(met="b")["addresses"] == [b.ipv6]


def test_an_address_that_changes_is_told_at_once(lan: Lan, discovering: Callable[..., Discovering]) -> None:
    a, b = lan.host("a"), lan.host("b")
    node, other = discovering(a, "a"), discovering(b, "b")
    node.says(met="b", addresses=[b.ipv4])
    with b.entered():
        interfaces.add_ipv4(INTERFACE, ipaddress.IPv4Interface("10.77.0.99/24"))
    other.says(addresses=["10.77.0.99"])
    node.says(met="b", addresses=["10.77.0.99"])


def test_a_node_that_starts_before_its_network_is_found_once_that_is_up(
    namespaces: None, discovering: Callable[..., Discovering]
) -> None:
    namespace = Namespace()
    try:
        node = discovering(namespace, "a")
        node.says(addresses=["127.0.0.1"])
        with namespace.entered():
            tap = interfaces.open_tap("late0")
            interfaces.add_ipv4("late0", ipaddress.IPv4Interface("10.1.2.3/24"))
            interfaces.bring_up("late0")
        node.says(addresses=["10.1.2.3"])
        os.close(tap)  # and it is gone again
        node.says(addresses=["127.0.0.1"])
    finally:
        namespace.close()


def test_where_another_program_keeps_the_port_it_says_so_and_goes_on_when_it_is_free(
    namespaces: None, discovering: Callable[..., Discovering]
) -> None:
    namespace = Namespace()
    try:
        with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as selfish:
            selfish.bind(("", 5353))
            node = discovering(namespace, "a")
            assert "in use" in node.says("trouble")["trouble"]
        assert node.says("trouble")["trouble"] == ""
        discovering(namespace, "b")
        node.says(met="b")
    finally:
        namespace.close()


def doctor(host: Host, data_dir: Path, *arguments: str) -> list[tuple[str, str, str]]:
    """What `ingle doctor mesh` says there: what about, verdict, sentence."""
    command = [
        "timeout",
        str(TIMEOUT_S),
        sys.executable,
        "-m",
        "appliance.cli.main",
        "doctor",
        "mesh",
        *arguments,
        "--json",
    ]
    environment = {**os.environ, "INGLE_DATA_DIR": str(data_dir)}
    with host.entered():
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [(one["about"], one["verdict"], one["sentence"]) for one in json.loads(done.stdout)]


def test_the_doctor_sees_other_meshes_and_whether_the_network_carries_multicast(
    lan: Lan, discovering: Callable[..., Discovering], tmp_path: Path
) -> None:
    a, b = lan.host("a"), lan.host("b")
    discovering(b, "stranger").says("addresses")
    mine = tmp_path / "mine"
    mine.mkdir()
    Keyring(mine)
    load_identity(mine)
    told = {about: (verdict, sentence) for about, verdict, sentence in doctor(a, mine)}
    assert told[f"multicast: {INTERFACE} ({a.ipv4})"][0] == "ok"
    assert told["neighbours"][0] == "ok"
    assert b.ipv4 in told["neighbours"][1]
    assert f"stranger ({b.ipv4}:8004)" in told["another mesh"][1]
    lan.cut_off(b)
    told = {about: (verdict, sentence) for about, verdict, sentence in doctor(a, mine)}
    assert told["neighbours"][0] == "warn"
    assert "another mesh" not in told
