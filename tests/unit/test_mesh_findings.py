"""Why two nodes do not meet, by tables: what was found out, and the sentence that names the cause and what to do."""

import socket
from pathlib import Path

import pytest

from appliance.cli import mesh_facts
from appliance.cli.examination import Finding
from appliance.cli.mesh_facts import Candidate, Facts, Tried, candidates_of, gather, parse_target
from appliance.cli.mesh_findings import findings_of
from appliance.client_answers import MeshNode, NodeLink, Nodes
from appliance.core.addresses import Address
from appliance.core.errors import BadInputError
from appliance.settings import load_settings
from federation.interfaces import Interface
from federation.keyring import mesh_key
from federation.knocking import Answer, Ending, Knock
from federation.messages import Introduction
from federation.multicast_check import Heard

KEY = mesh_key(bytes(32))
MESH = Address("0.0.0.0", 8004)
THERE = Address("10.0.0.7", 8004)
INTERFACES = [Interface("lo", 1, True, ("127.0.0.1",)), Interface("eth0", 2, False, ("10.0.0.1", "fe80::1"))]
MESHED = Knock("open", is_mesh=True)


def introduction(name: str, key_id: str = KEY.id, address: str = "10.0.0.7") -> Introduction:
    return Introduction(name.ljust(32, "0"), name, bytes(32), key_id, bytes(32), [address], 8004, 8005)


ANSWERED = Answer("open", introduction("box"))


def facts(**fields: object) -> Facts:
    given = {
        "mesh": MESH,
        "discover": True,
        "told": Nodes([MeshNode("here", this=True)], KEY.id),
        "runs": True,
        "key": KEY,
        "interfaces": INTERFACES,
        "heard": [Heard("127.0.0.1", True), Heard("10.0.0.1", True, frozenset({"10.0.0.7"})), Heard(2, True)],
    }
    return Facts(**given | fields)  # type: ignore[arg-type]


def found(facts: Facts, *, is_asked: bool = False) -> list[Finding]:
    return list(findings_of(facts, is_asked=is_asked))


def about(findings: list[Finding], about: str) -> list[tuple[str, str]]:
    return [
        (finding.verdict, finding.sentence)
        for finding in findings
        if about in (finding.about, finding.about.split(" (")[0])
    ]


def tried(tcp: Knock = MESHED, udp: Answer | None = ANSWERED, **fields: object) -> Tried:
    return Tried("box", THERE, tcp, udp, **fields)  # type: ignore[arg-type]


def test_a_box_that_says_it_is_this_one_is_told_of_with_what_to_do() -> None:
    [(verdict, sentence)] = about(found(facts(twin_at=["10.0.0.9"])), "identity")
    assert verdict == "fail"
    assert "10.0.0.9" in sentence
    assert "delete mesh.identity" in sentence


def test_boxes_that_are_called_the_same_are_told_of() -> None:
    named_alike = facts(told=Nodes([MeshNode("box", this=True)], KEY.id), tried=[tried()])
    [(verdict, sentence)] = about(found(named_alike), "names")
    assert verdict == "warn"
    assert "2 nodes are called 'box'" in sentence
    assert "--name" in sentence
    assert about(found(facts(tried=[tried()])), "names") == []


def test_a_box_that_was_set_up_anew_is_not_taken_for_the_node_that_it_was() -> None:
    again = tried(node_id="0123456789abcdef", other="box", known=MeshNode("box", standing="dead"))
    [(verdict, sentence)] = about(found(facts(tried=[again])), "box")
    assert verdict == "warn"
    assert "ingle mesh revoke 0123456789ab" in sentence


def test_where_all_is_well_nothing_is_warned_of() -> None:
    seen = introduction("box")
    well = facts(seen=[seen], tried=[tried(seen=seen, bulk=MESHED, bulk_port=8005)])
    assert [finding for finding in found(well) if finding.verdict != "ok"] == []


@pytest.mark.parametrize(
    ("fields", "verdict", "word", "says"),
    [
        ({"mesh": None}, "fail", "mesh", "--mesh off"),
        ({"told": None, "runs": False}, "warn", "node", "ingle serve"),
        ({"told": None}, "warn", "node", "does not answer"),
        ({"told": None, "port_faults": {"TCP 0.0.0.0:8004": "in use"}}, "fail", "ports", "TCP 0.0.0.0:8004 cannot"),
        ({"discover": False}, "warn", "discovery", "--join"),
        ({"key": None, "key_fault": "it is another user's"}, "warn", "key", "another user's"),
        ({"told": Nodes([], "b0b0")}, "warn", "key", "b0b0"),
        ({"heard": [Heard("127.0.0.1", True)]}, "warn", "network", "no interface"),
        ({"heard": [Heard("10.0.0.1", False)]}, "fail", "multicast: eth0 (10.0.0.1)", "firewall on this box"),
        ({"heard": [Heard(2, False, fault="not permitted")]}, "fail", "multicast: eth0 (IPv6)", "not permitted"),
        ({"heard": [Heard("10.0.0.1", True)]}, "warn", "neighbours", "--join"),
        ({"look_fault": "in use"}, "fail", "mDNS", "5353"),
        ({"seen": [introduction("stranger", "b0b0")]}, "warn", "another mesh", "stranger (10.0.0.7:8004)"),
        ({"seen": [introduction("stranger", "b0b0")]}, "warn", "another mesh", "ingle mesh invite"),
        ({}, "warn", "nodes", "ingle doctor mesh HOST:PORT"),
    ],
)
def test_what_is_wrong_with_this_box_or_its_network_is_named_with_what_to_do(
    fields: dict[str, object], verdict: str, word: str, says: str
) -> None:
    ((told, sentence),) = [each for each in about(found(facts(**fields)), word) if each[0] != "ok"]
    assert told == verdict
    assert says in sentence


@pytest.mark.parametrize(
    ("what", "verdict", "says"),
    [
        (tried(Knock("closed"), Answer("closed")), "fail", "nobody listens on TCP port 8004"),
        (tried(Knock("silent"), Answer("silent")), "fail", "the box is off, or a firewall"),
        (tried(Knock("silent")), "fail", "the box is on, so a firewall"),
        (tried(Knock("silent"), Answer("silent"), seen=introduction("box")), "fail", "the box is on, so a firewall"),
        (tried(Knock("no way", detail="No route to host")), "fail", "No route to host"),
        (tried(Knock("open")), "fail", "is no mesh's"),
        (tried(udp=Answer("silent")), "fail", "compare 'ingle mesh key'"),
        (tried(udp=Answer("closed")), "fail", "nobody listens on UDP"),
        (tried(udp=None), "warn", "for want of the key"),
        (tried(udp=Answer("silent"), seen=introduction("box", "b0b0")), "fail", "another mesh's key, b0b0"),
        (tried(udp=Answer("silent"), seen=introduction("box")), "fail", "a firewall drops UDP 8004, or it has revoked"),
        (tried(udp=Answer("open", introduction("box"), 3600.0)), "warn", "3600.0 s ahead of this box's"),
        (tried(udp=Answer("open", introduction("box"), -90.0)), "warn", "90.0 s behind"),
        (tried(bulk=Knock("silent"), bulk_port=8005), "warn", "TCP port 8005 there, for calls and copies"),
        (tried(known=MeshNode("box", standing="dead", version="")), "fail", "it counts as dead"),
        (tried(known=MeshNode("box", version="9.9.9")), "warn", "it runs Ingle 9.9.9"),
    ],
)
def test_why_one_node_is_not_met_is_named(what: Tried, verdict: str, says: str) -> None:
    told = about(found(facts(tried=[what]), is_asked=True), "box (10.0.0.7:8004)")
    assert verdict in [each for each, sentence in told if says in sentence]


@pytest.mark.parametrize(
    ("awaited_s", "says"),
    [
        ([0.0, 0.0], ""),
        ([1.0, 0.0], ""),
        ([9.0, 0.0], "n0 does not come to TCP port 8005 of this box"),
        ([9.0, 0.0], "a firewall on this box drops what is sent to it from there, or one on the way"),
        ([9.0, 70.0], "n0, n1 do not come to TCP port 8005 of this box"),
        ([9.0, 70.0], "a firewall on this box drops what is sent to it, or one on the way"),
    ],
)
def test_whoever_stays_away_from_a_port_of_this_box_tells_of_its_own_firewall(
    awaited_s: list[float], says: str
) -> None:
    others = [MeshNode(f"n{i}", link=NodeLink(0.001, 0.0, each)) for i, each in enumerate(awaited_s)]
    told = about(found(facts(told=Nodes([MeshNode("here", this=True), *others], KEY.id))), "calls and copies")
    assert [verdict for verdict, _ in told] == (["warn"] if says else [])
    assert all(says in sentence for _, sentence in told)


@pytest.mark.parametrize("ending", ["closed", "silent", "no way"])
def test_of_a_port_that_does_not_open_no_more_is_guessed(ending: Ending) -> None:
    assert len(about(found(facts(tried=[tried(Knock(ending), Answer("silent"))]), is_asked=True), "box")) == 1


def test_one_address_is_tried_without_words_about_the_rest() -> None:
    one = facts(tried=[tried()], seen=[introduction("x", "b0b0")])
    words = {finding.about for finding in found(one, is_asked=True)}
    assert words == {"node", "key", "box (10.0.0.7:8004)"}


def test_a_link_is_told_with_its_round_trip() -> None:
    known = MeshNode("box", standing="alive", link=NodeLink(0.0004))
    assert any(
        "round trip 400 µs" in sentence for _, sentence in about(found(facts(tried=[tried(known=known)])), "box")
    )


def test_a_node_is_tried_once_wherever_it_is_known_from() -> None:
    known = MeshNode("box", node_id=introduction("box").node_id, mesh="10.0.0.7:8004", addresses=["10.0.0.7"])
    told = Nodes([MeshNode("here", this=True, mesh="10.0.0.1:8004"), known], KEY.id)
    seen = [introduction("box", address="10.0.0.8"), introduction("stranger", "b0b0")]
    remembered = [introduction("box", address="10.0.0.9"), introduction("old"), introduction("self")]
    candidates = candidates_of(facts(told=told, seen=seen), remembered, introduction("self").node_id)
    assert candidates == [
        Candidate("box", ["10.0.0.7", "10.0.0.8", "10.0.0.9"], 8004, 8005, seen[0], known, known.node_id),
        Candidate("old", ["10.0.0.7"], 8004, 8005, node_id=introduction("old").node_id),
    ]


def resolve(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Every name has these addresses."""

    def resolved(_host: str, port: int, **_asked: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.7", Address("10.0.0.7", 8004)),
        ("10.0.0.7:9", Address("10.0.0.7", 9)),
        ("fd00::7", Address("fd00::7", 8004)),
        ("[fd00::7]", Address("fd00::7", 8004)),
        ("[fd00::7]:9", Address("fd00::7", 9)),
    ],
)
def test_an_address_may_leave_out_its_port(text: str, address: Address) -> None:
    assert parse_target(text) == [address]


def test_a_name_means_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "10.0.0.7", "10.0.0.8", "10.0.0.7")
    assert parse_target("box.lan") == [Address("10.0.0.7", 8004), Address("10.0.0.8", 8004)]
    resolve(monkeypatch, *(f"10.0.0.{host}" for host in range(200)))
    assert len(parse_target("box.lan")) == 4


def test_what_the_addresses_of_a_name_gave_is_said_where_they_differ() -> None:
    old = Tried("10.0.0.8:8004", Address("10.0.0.8", 8004), Knock("silent"))
    one = tried(others=[old])
    [(verdict, sentence)] = about(found(facts(tried=[one]), is_asked=True), "addresses")
    assert verdict == "warn"
    assert "has 2, and they differ: 10.0.0.7:8004 answers as a mesh does (box); 10.0.0.8:8004 is silent" in sentence
    assert about(found(facts(tried=[one])), "addresses") == []  # that nodes have some that are not reached is usual
    for alike in ([], [tried()]):
        assert about(found(facts(tried=[tried(others=alike)]), is_asked=True), "addresses") == []


def test_all_addresses_of_a_name_are_knocked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with socket.create_server(("127.0.0.2", port)):
        resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
        targets = parse_target(f"box.lan:{port}")
        monkeypatch.undo()
        monkeypatch.setenv("INGLE_DATA_DIR", str(tmp_path))
        for wait in ("LOOK_S", "KNOCK_S"):
            monkeypatch.setattr(mesh_facts, wait, 0.1)
        settings = load_settings({"mesh": "127.0.0.1:0"})
        [box] = gather(settings, targets).tried
    assert (box.address, box.tcp.ending) == (Address("127.0.0.2", port), "open")
    assert [(other.address, other.tcp.ending) for other in box.others] == [(Address("127.0.0.1", port), "closed")]


@pytest.mark.parametrize("text", ["off", "10.0.0.7:0", "10.0.0.7:http", ":8004", "no.such.name.invalid"])
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_target(text)
