"""Which Triton servers a node calls, as the mesh's registers say, and what the router sees of them."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.core.addresses import Address, is_loopback
from appliance.core.errors import BadInputError
from appliance.gateway.triton_server import server_id
from appliance.gateway.tritons import MAX_SERVERS, Holders, Server, Tritons, parse_server
from federation.messages import Hello, Introduction, Register, Stamp
from federation.peer import Peer

OWN = "a" * 32


def register(name: str, *, key: str = "", value: str | None = None, kind: str = "triton") -> Register:
    return Register(kind, name, key, Stamp(1, 0, OWN), json.dumps({"owner": "triton"}) if value is None else value)


def wanted(*registers: Register) -> list[Server]:
    mesh: Any = SimpleNamespace(node_id=OWN, registers=list(registers))
    nobody: Any = None
    return Tritons(mesh, Holders({}), nobody, max_body_bytes=1).wanted()


def test_every_node_calls_what_was_added_anywhere_and_no_other_node_what_is_anothers_loopback() -> None:
    found = wanted(
        register("10.0.0.5:8001"),
        register("10.0.0.6:8001", value='{"owner": "lab", "later": 1}'),
        register("127.0.0.1:8001", key=OWN),
        register("127.0.0.1:9001", key="b" * 32),
        register("10.0.0.7:8001", value=""),
        register("10.0.0.8:8001", value="what a later version writes"),
        register("10.0.0.9:8001", value='{"owner": "no owner"}'),
        register("no address"),
        register("10.0.0.4:8001", kind="other"),
    )
    assert found == [
        Server(Address("10.0.0.5", 8001), "triton"),
        Server(Address("10.0.0.6", 8001), "lab"),
        Server(Address("127.0.0.1", 8001), "triton"),
    ]


def test_servers_are_bounded_in_number() -> None:
    many = [register(f"10.0.{number}.1:8001") for number in range(MAX_SERVERS + 5)]
    assert len(wanted(*many)) == MAX_SERVERS


@pytest.mark.parametrize(
    "text", ["triton://10.0.0.5", "triton://10.0.0.5:0", "10.0.0.5:8001", "triton://:1", "triton://off", ""]
)
def test_what_is_no_servers_address_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="triton://HOST:PORT"):
        parse_server(text)


def test_addresses_are_hosts_and_ports() -> None:
    assert parse_server("triton://gpu.lan:8001/") == Address("gpu.lan", 8001)
    assert parse_server("triton://[fe80::1]:8001") == Address("fe80::1", 8001)
    assert [is_loopback(host) for host in ("localhost", "127.0.1.1", "::1", "10.0.0.5", "gpu.lan")] == [
        *(True, True, True, False, False)
    ]


def peer(name: str) -> Peer:
    return Peer(
        node_id=name,
        name=name,
        standing="alive",
        since_s=0.0,
        hello=Hello(1, "", Introduction(name, name, b"", "", b"", [], 0, 0), 1),
    )


def test_nodes_and_servers_are_one_mapping_for_the_router() -> None:
    node, server = peer("node"), peer(server_id(Address("10.0.0.5", 8001)))
    nodes = {"node": node}
    holders = Holders(nodes)
    assert (list(holders.values()), dict(holders.items())) == ([node], nodes)
    holders.servers[server.node_id] = server
    assert list(holders) == ["node", server.node_id]
    assert list(holders.values()) == [node, server]
    assert dict(holders.items()) == dict(holders) == {"node": node, server.node_id: server}
    assert (holders[server.node_id], holders.get("node"), holders.get("nobody"), len(holders)) == (
        server,
        node,
        None,
        2,
    )
    nodes.clear()
    assert list(holders.values()) == [server]
