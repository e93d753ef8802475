"""The page of the mesh: what it says of nodes and of what is warm, and that it fits terminals of all sizes."""

import pytest

from appliance.cli.mesh_screen import page, warm_lines
from appliance.client_answers import MeshNode, NodeLink, NodeLoad, Nodes, OtherMesh, OtherNode, WarmModel


def node(name: str, *warm: WarmModel, this: bool = False, standing: str = "alive", for_s: float = 0.0) -> MeshNode:
    return MeshNode(
        name,
        this=this,
        standing=standing,
        standing_for_s=for_s,
        models=3,
        mesh="10.0.0.7:8004",
        link=None if this else NodeLink(0.0004, 112e6),
        load=NodeLoad(backlog_s=0.25, in_flight=3, memory_free_bytes=10**9, cpu_share=0.5),
        warm_models=len(warm),
        warm=list(warm),
    )


def mesh(count: int) -> Nodes:
    nodes = [
        node(f"box{number:03}-with-a-long-name", WarmModel(f"me/model{number}", "1.0.0", 1), this=number == 0)
        for number in range(count)
    ]
    return Nodes(
        nodes, "3f9a3f9a3f9a3f9a", others=[OtherMesh("b0b0", [OtherNode("stranger", address="10.0.0.9:8004")])]
    )


def plain(told: Nodes, width: int = 300, height: int | None = None) -> str:
    return "\n".join(line.plain for line in page(told, width=width, height=height))


def test_each_node_has_its_standing_link_and_load() -> None:
    shown = plain(Nodes([node("here", this=True), node("there"), node("lost", standing="dead", for_s=300)], "3f9a"))
    assert "mesh 3f9a  2 of 3 nodes alive, 1 dead" in shown
    (there,) = [line for line in shown.splitlines() if line.startswith("there")]
    assert " ".join(there.split()) == "there alive 10.0.0.7:8004 400 µs 112.0 MB/s 3 250 ms 3 50% 1.0 GB"
    assert "here (this)" in shown
    assert "dead 5min" in shown


def test_a_version_is_told_once_with_all_nodes_where_it_is_warm_and_not_with_the_dead() -> None:
    told = [
        node("a", WarmModel("me/x", "1.0.0", 2, 0.5, 0.004)),
        node("b", WarmModel("me/x", "1.0.0", 1, 0.25, 0.002), WarmModel("me/y", "2.0.0", 1)),
        node("c", WarmModel("me/x", "1.0.0", 9), standing="dead"),
    ]
    x, y = warm_lines(told)
    assert (x.name, dict(x.replicas), x.backlog_s, x.run_s) == ("me/x:1.0.0", {"a": 2, "b": 1}, 0.75, 0.002)
    assert (y.name, dict(y.replicas)) == ("me/y:2.0.0", {"b": 1})
    assert "a (2), b" in plain(Nodes(told, "3f9a"))


def test_another_mesh_in_sight_is_told_with_its_key_and_address() -> None:
    assert "another mesh is in sight, of key b0b0: stranger (10.0.0.9:8004)" in plain(mesh(1))


def test_a_mesh_that_is_off_or_provisional_says_so() -> None:
    assert "the mesh is off" in plain(Nodes([node("here", this=True)]))
    assert "provisional" in plain(Nodes([node("here", this=True)], "3f9a", provisional=True))


@pytest.mark.parametrize("width", [1, 10, 24, 40, 80, 132, 300])
@pytest.mark.parametrize("height", [1, 4, 5, 6, 24, 60])
def test_a_page_fits_its_terminal(width: int, height: int) -> None:
    lines = page(mesh(20), width=width, height=height)
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_what_does_not_fit_is_counted() -> None:
    lines = plain(mesh(20), height=40).splitlines()
    (more,) = [line for line in lines if line.startswith("and ")]
    assert more == f"and {20 - sum(line.startswith('me/model') for line in lines)} more"
