"""What the mesh says of a model, as the catalogue lays it over its own."""

import asyncio
from types import SimpleNamespace
from typing import Any

from appliance.catalogue.elsewhere import Elsewhere
from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature
from appliance.core.versions import Version
from appliance.gateway.mesh_catalogue import MeshCatalogue, elsewhere, record_of, version_of
from federation.messages import Record
from federation.view import MeshConflict, MeshModel, MeshVersion

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
