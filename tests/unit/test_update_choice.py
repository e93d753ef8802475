"""Whose program an update from the mesh takes, and which nodes are shown to be behind."""

import pytest

from appliance.cli.update_choice import behind, named, newest
from appliance.client_answers import MeshNode, NodeLink, Program
from appliance.core.errors import BadInputError, IngleError, NotFoundError, RefusedError, UnavailableError
from appliance.core.release import Build

OWN = Build("1.1.0", 50, runtime="cpu")


def node(
    name: str, version: str = "", built_s: int = 50, *, rtt_s: float = 0.001, runtime: str = "cpu", **fields: object
) -> MeshNode:
    """A node that runs a one file of this version; of none: an installed package."""
    told = Program(f"{version}/{built_s}", 10**7, version, built_s, runtime) if version else None
    given = {"node_id": f"id-{name}", "version": version or "1.0.0", "link": NodeLink(rtt_s, 1e8), "program": told}
    return MeshNode(name, **{**given, **fields})  # type: ignore[arg-type]


HERE = node("here", "1.1.0", this=True)
FORGED = Program("x", 10**7, fault="is signed with another key than this program's")


@pytest.mark.parametrize(
    ("peers", "taken"),
    [
        ([], []),
        ([node("same", "1.1.0")], []),
        ([node("older", "1.0.9", 99)], []),
        ([node("later-build", "1.1.0", 51)], ["later-build"]),
        ([node("a", "1.2.0"), node("b", "1.10.0"), node("c", "1.9.0")], ["b", "c", "a"]),
        ([node("far", "1.2.0", rtt_s=0.2), node("near", "1.2.0", rtt_s=0.001)], ["near"]),
        ([node("installed")], []),
        ([node("forged", program=FORGED)], []),
        ([node("gpu", "2.0.0", runtime="gpu")], []),
        ([node("dead", "2.0.0", standing="dead"), node("suspect", "1.2.0", standing="suspect")], ["suspect"]),
        ([node("triton", "2.0.0", outside=True)], []),
        ([node("odd", "not a version")], []),
    ],
)
def test_the_newest_that_can_be_had_is_taken_from_the_nearest(peers: list[MeshNode], taken: list[str]) -> None:
    assert [node.name for node in newest(OWN, [HERE, *peers])] == taken


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ("nobody", NotFoundError, "it has .*older.*"),
        ("here", BadInputError, "this node itself"),
        ("installed", NotFoundError, "no one file can be had of installed"),
        ("forged", RefusedError, "the one file of forged is signed with another key"),
        ("gpu", RefusedError, "ingle update FILE"),
        ("dead", UnavailableError, "of dead, which is dead"),
        ("older", RefusedError, "--allow-downgrade"),
        ("triton", NotFoundError, "no node"),
    ],
)
def test_a_node_that_cannot_give_an_update_is_told_in_a_sentence(
    wanted: str, error: type[IngleError], words: str
) -> None:
    nodes = [HERE, node("installed"), node("forged", program=FORGED), node("gpu", "2.0.0", runtime="gpu")]
    nodes += [node("dead", "2.0.0", standing="dead"), node("older", "1.0.0"), node("triton", outside=True)]
    with pytest.raises(error, match=words):
        named(OWN, nodes, wanted, allow_downgrade=False)


def test_a_node_is_named_by_its_name_or_id_and_may_have_an_older_one_where_that_is_asked_for() -> None:
    nodes = [HERE, node("older", "1.0.0"), node("same", "1.1.0")]
    assert named(OWN, nodes, "id-same", allow_downgrade=False).name == "same"
    assert named(OWN, nodes, "older", allow_downgrade=True).name == "older"


def test_who_is_behind_is_told_for_each_runtime() -> None:
    nodes = [HERE, node("new", "1.2.0"), node("old", "1.0.0"), node("installed"), node("gpu", "1.1.0", runtime="gpu")]
    assert behind(nodes) == [("1.2.0", "new", ["here", "old"])]
    assert behind([*nodes, node("gpu2", "1.1.0", 60, runtime="gpu")]) == [
        ("1.2.0", "new", ["here", "old"]),
        ("1.1.0", "gpu2", ["gpu"]),
    ]
    assert behind([HERE, node("same", "1.1.0"), node("dead", "9.0.0", standing="dead")]) == []
    assert behind([HERE, node("forged", program=FORGED)]) == []
