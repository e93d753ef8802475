"""What the mesh says of a model, as the catalogue lays it over its own."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.catalogue.elsewhere import Elsewhere, merged
from appliance.catalogue.index import make_entry
from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature
from appliance.core.versions import Version
from appliance.gateway.mesh_catalogue import MeshCatalogue, elsewhere, record_of, version_of
from federation.holdings import record_key
from federation.messages import Record, Register, Stamp, removal_key
from federation.view import MeshConflict, MeshModel, MeshVersion, MeshView

OWN, OTHER, THIRD = "a" * 32, "b" * 32, "c" * 32
V1 = Version(1, 0, 0)


def record(version: str = "1.0.0", digest: str = "d" * 64, ordinal: int = 1) -> Record:
    return Record("acme/x", version, ordinal, digest, 10, Signature((), ()), Manifest(), False, "because", 5.0)


def test_very_many_models_that_come_or_go_at_once_leave_turns_to_calls() -> None:
    """As where a node that holds them is lost."""
    heard: list[str] = []
    put: list[int] = []
    known: Any = SimpleNamespace(put_elsewhere=lambda told: put.append(len(told)), has_model=lambda _: False)
    mesh: Any = SimpleNamespace(node_id=OWN, view=SimpleNamespace(model=lambda _: None))

    async def turns() -> int:
        catalogue = MeshCatalogue(known, mesh, "attic")
        catalogue.on_change = heard.extend
        taking = asyncio.create_task(catalogue._take([*(f"acme/m{number}" for number in range(30_000)), "no model!"]))
        count = 0
        while not taking.done():
            await asyncio.sleep(0)
            count += 1 if not put else 0
        return count

    assert asyncio.run(turns()) > 5
    assert put == [30_000]
    assert heard == [f"acme/m{number}" for number in range(30_000)]


def test_a_record_and_a_version_tell_the_same() -> None:
    version = version_of(record())
    assert version.folder == ""
    assert record_of(version) == record()


def test_what_others_hold_lies_elsewhere_and_what_is_mine_alone_does_not() -> None:
    versions = {
        "1.0.0": MeshVersion(record(), (OWN,)),
        "2.0.0": MeshVersion(record("2.0.0", ordinal=2), (OWN, OTHER)),
        "3.0.0": MeshVersion(record("3.0.0", ordinal=3), (OTHER, THIRD)),
    }
    told = elsewhere(MeshModel("acme/x", versions=versions), OWN)
    assert told is not None
    assert [str(version.version) for version in told.versions] == ["2.0.0", "3.0.0"]
    assert told.holders == {Version(2, 0, 0): (OTHER,), Version(3, 0, 0): (OTHER, THIRD)}
    assert told.ordinals == {V1: 1, Version(2, 0, 0): 2, Version(3, 0, 0): 3}


def test_what_was_deleted_here_is_not_there_because_other_content_of_that_name_is_lost() -> None:
    lost = record(digest="e" * 64)
    told = elsewhere(MeshModel("acme/x", dead={OWN: (record(),)}, lost={"1.0.0": lost}), OWN)
    assert told is not None
    assert told.removed == {V1}
    assert merged(make_entry([version_of(record())], {}), told) == merged(None, told)


@pytest.mark.parametrize(
    ("version", "by_ordinal", "nodes"),
    [
        ("", False, ["attic", "barn"]),
        ("latest", False, ["attic", "barn"]),
        ("2.0.0", False, ["barn"]),
        ("prod", False, ["barn"]),
        ("7", True, ["barn"]),
        ("7", False, []),
        ("3.0.0", False, []),
    ],
)
def test_where_a_model_lies_that_is_out_of_reach(version: str, by_ordinal: bool, nodes: list[str]) -> None:
    removed = Register("removed", "acme/x", removal_key("3.0.0", "d" * 64), Stamp(10_000, 0, OWN), "d" * 64)
    alias = Register("alias", "acme/x", "prod", Stamp(10_000, 0, OWN), "2.0.0")
    view = MeshView(lambda _: (removed, alias))
    for node_id, one in ((OTHER, record()), (THIRD, record("2.0.0", ordinal=7)), (THIRD, record("3.0.0"))):
        view.lose(node_id, record_key(one), one)
    peers = [SimpleNamespace(node_id=OTHER, name="attic"), SimpleNamespace(node_id=THIRD, name="barn")]
    known: Any = None
    mesh: Any = SimpleNamespace(node_id=OWN, view=view, peers=lambda: peers)

    async def away() -> list[str]:
        return MeshCatalogue(known, mesh, "cellar").away("acme/x", version, by_ordinal)

    assert asyncio.run(away()) == nodes


def test_a_conflict_says_who_holds_what() -> None:
    conflict = MeshConflict("1.0.0", 1, {"d" * 64: (OWN,), "e" * 64: (OTHER,)}, record())
    told = elsewhere(MeshModel("acme/x", conflicts={"1.0.0": conflict}), OWN, {OWN: "attic", OTHER: "barn"}.__getitem__)
    assert told is not None
    assert [str(version.version) for version in told.versions] == ["1.0.0"]
    assert "eeeeeeeeeeee on barn" in told.conflicts[V1]
    assert "dddddddddddd" in told.conflicts[V1]


def test_what_was_removed_is_hidden_here_until_it_is_deleted() -> None:
    told = elsewhere(MeshModel("acme/x", dead={OWN: (record(),), OTHER: (record("2.0.0"),)}), OWN)
    assert told == Elsewhere(removed=frozenset({V1}))


def test_of_a_model_that_is_mine_alone_the_mesh_says_nothing_new() -> None:
    told = elsewhere(MeshModel("acme/x", versions={"1.0.0": MeshVersion(record(), (OWN,))}), OWN)
    assert told is None or (not told.versions and not told.holders)
