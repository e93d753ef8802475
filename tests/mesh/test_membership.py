"""Who belongs to a mesh, changed while it runs: real links, real invitations, on the loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from appliance.core.addresses import Address, parse_address
from appliance.core.errors import BadInputError, ConflictError, ForbiddenError, NotFoundError
from federation.credentials import introduce
from federation.identity import load_identity, new_identity
from federation.invitation_code import Code
from federation.keyring import Keyring, mesh_key
from federation.mesh import Mesh
from federation.mesh_membership import MeshMembership, find_member
from federation.pinned_names import Pin
from federation.stopped_node import StoppedNode
from tests.mesh.meshed import KEY, Shells, shells, stands, until

OTHER_KEY = "a5" * 32


class Houses(Shells):
    """Shells with their memberships."""

    def __init__(self, shells: Shells, folder: Path) -> None:
        self.shells = shells
        self.folder = folder
        self.memberships: dict[str, MeshMembership] = {}

    async def start(self, name: str, *, key: str = KEY, **_: Any) -> Mesh:
        mesh = await self.shells.start(name, key=key)
        self.memberships[mesh.node_id] = MeshMembership(
            mesh, load_identity(self.folder / name), name=name, address=Address("127.0.0.1", 0), advertise=""
        )
        return mesh

    def of(self, mesh: Mesh) -> MeshMembership:
        return self.memberships[mesh.node_id]

    async def met(self, *meshes: Mesh) -> None:
        await self.shells.met(*meshes)

    async def mesh_of(self, *names: str) -> list[Mesh]:
        made = [await self.start(name) for name in names]
        for mesh in made[1:]:
            mesh.join(self.shells.address[made[0].node_id])
        await self.met(*made)
        return made

    def keys(self, *meshes: Mesh) -> set[tuple[str, ...]]:
        return {tuple(key.id for key in mesh.keyring.keys) for mesh in meshes}


@contextlib.asynccontextmanager
async def houses(folder: Path) -> AsyncIterator[Houses]:
    async with shells(folder) as made:
        own = Houses(made, folder)
        try:
            yield own
        finally:
            for membership in own.memberships.values():
                await membership.close()


def run(folder: Path, test: Callable[[Houses], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with houses(folder) as made:
            await test(made)

    uvloop.run(whole())


def test_a_new_node_joins_by_the_code_alone_and_meets_all_the_others(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other = await nodes.mesh_of("one", "other")
        new = await nodes.start("new", key="")
        assert new.keyring.provisional
        invitation = await nodes.of(one).invite()
        host = await nodes.of(new).join(invitation.code, None)
        assert host.name == "one"
        await nodes.met(one, other, new)
        assert nodes.keys(one, other, new) == {(one.keyring.current.id,)}
        assert not new.keyring.provisional
        assert Keyring(tmp_path / "new").current == one.keyring.current
        assert [pin.name for pin in nodes.of(one).describe().members] == ["other", "new"]
        assert invitation.joined == "new"

    run(tmp_path, test)


def test_two_new_boxes_become_one_mesh_by_one_code(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other = await nodes.start("one", key=""), await nodes.start("other", key="")
        invitation = await nodes.of(one).invite()
        (address,) = nodes.of(one).invite_addresses
        await nodes.of(other).join(invitation.code, parse_address(address))
        await nodes.met(one, other)
        await until(lambda: not one.keyring.provisional)

    run(tmp_path, test)


def test_a_wrong_code_changes_nothing_and_is_told_where_it_was_made(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, new = await nodes.start("one"), await nodes.start("new", key="")
        invitation = await nodes.of(one).invite()
        before = new.keyring.message()
        with pytest.raises(ForbiddenError, match="code is wrong"):
            await nodes.of(new).join(Code(invitation.code.label, "0" * 6), None)
        assert new.keyring.message() == before
        assert "wrong code came from 127.0.0.1" in nodes.of(one).invitations()[0].notes[0]

    run(tmp_path, test)


def test_who_is_in_a_mesh_with_others_leaves_it_only_when_told(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other = await nodes.mesh_of("one", "other")
        third = await nodes.start("third", key=OTHER_KEY)
        invitation = await nodes.of(third).invite()
        with pytest.raises(ConflictError, match="in a mesh with one, and would leave it: say --leave"):
            await nodes.of(other).join(invitation.code, None)
        assert stands(one, other) == "alive"
        await nodes.of(other).join(invitation.code, None, leave=True)
        await nodes.met(other, third)
        await until(lambda: one.peers() == [])
        assert [peer.name for peer in other.peers()] == ["third"]
        # It left for good: whoever stays is alone, and may go in his turn.
        assert nodes.of(one).describe().members == []

    run(tmp_path, test)


def test_a_node_that_leaves_is_a_mesh_of_one_and_nobody_waits_for_it(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other, third = await nodes.mesh_of("one", "other", "third")
        one.write_register(kind="node", name="ee" * 32, key="revoked", value="lost")
        await until(lambda: other.registers)
        await nodes.of(other).leave()
        await until(lambda: all(stands(mesh, other) == "" for mesh in (one, third)))
        assert other.peers() == []
        assert other.keyring.provisional
        assert other.registers == []  # whom one mesh threw out is nothing to another
        assert other.keyring.current.id not in {key.id for key in one.keyring.keys}
        assert stands(one, third) == "alive"

    run(tmp_path, test)


def test_a_node_does_not_join_itself(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one = await nodes.start("one", key="")
        invitation = await nodes.of(one).invite()
        with pytest.raises(BadInputError, match="this node itself made that code"):
            await nodes.of(one).join(invitation.code, None)

    run(tmp_path, test)


def test_a_rotation_cuts_no_link_and_a_node_that_was_away_comes_back(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other, away = await nodes.mesh_of("one", "other", "away")
        old, ups = one.keyring.current.id, []
        await nodes.shells.stop(away)
        await until(lambda: stands(one, away) == "dead")
        one.on_peer_change = lambda node_id: ups.append((node_id, one.by_id[node_id].standing))
        made = await nodes.of(other).rotate()
        await until(lambda: nodes.keys(one, other) == {(made.id,)})
        await until(lambda: nodes.of(one).describe().step.act == "done")
        assert (other.node_id, "dead") not in ups
        assert one.keyring.get(old) is None
        again = await nodes.start("away")
        assert again.keyring.current.id == old
        again.join(nodes.shells.address[one.node_id])
        await nodes.met(one, other, again)
        await until(lambda: nodes.keys(again) == {(made.id,)})

    run(tmp_path, test)


def test_advertisements_of_before_that_are_heard_again_keep_no_rotation_waiting(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        meshes = await nodes.mesh_of("one", "other", "third")
        before = [mesh.introduction for mesh in meshes]

        async def repeat() -> None:
            while True:
                for mesh in meshes:
                    for shown in before:
                        mesh.introduced(shown)
                await asyncio.sleep(0)

        repeating = asyncio.create_task(repeat())
        made = await nodes.of(meshes[1]).rotate()
        await until(lambda: nodes.keys(*meshes) == {(made.id,)})
        await until(lambda: {shown.key_id for mesh in meshes for shown in mesh.linked()} == {made.id})
        repeating.cancel()

    run(tmp_path, test)


def test_a_stranger_with_a_key_that_was_retired_does_not_come_in(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        (one,) = await nodes.mesh_of("one")
        made = await nodes.of(one).rotate()
        await until(lambda: nodes.keys(one) == {(made.id,)})
        (tmp_path / "ring").mkdir()
        stolen = Keyring(tmp_path / "ring", given=KEY)
        told = introduce(new_identity(), stolen, name="thief", addresses=["127.0.0.1"], mesh_port=9, bulk_port=10)
        assert "never met here" in one.introduced(told)
        assert one.peers() == []

    run(tmp_path, test)


def test_a_revoked_node_is_cut_off_everywhere_and_stays_out_whatever_it_does(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other, thief = await nodes.mesh_of("one", "other", "thief")
        old = one.keyring.current.id
        revoked = await nodes.of(one).revoke("thief", "it was stolen")
        assert revoked.node_id == thief.node_id
        await until(lambda: stands(one, thief) == stands(other, thief) == "")
        await until(lambda: nodes.keys(one, other) == {(one.keyring.current.id,)})
        assert nodes.keys(thief) == {(old,)}
        assert stands(one, other) == "alive"
        await until(lambda: {(r.key, r.value) for r in other.registers} == {("revoked", "it was stolen")})
        # It asks again, with its own key and as another node with the key that it knows.
        thief.join(nodes.shells.address[one.node_id])
        (tmp_path / "disguise").mkdir()
        disguised = await nodes.start("disguise")
        disguised.join(nodes.shells.address[other.node_id])
        invitation = await nodes.of(one).invite()
        with pytest.raises(ForbiddenError, match="revoked"):
            await nodes.of(thief).join(invitation.code, None, leave=True)
        assert thief.linked() == disguised.linked() == []
        assert [pin.name for pin in nodes.of(other).describe().members] == ["one"]
        assert {peer.name for peer in one.peers()} == {"other"}

    run(tmp_path, test)


def test_a_member_that_is_named_unclearly_is_not_revoked(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other = await nodes.mesh_of("one", "other")
        with pytest.raises(NotFoundError, match=r"this mesh has other \("):
            await nodes.of(one).revoke("othr", "")
        with pytest.raises(ConflictError, match="ingle mesh leave"):
            await nodes.of(one).revoke("one", "")
        anew = Pin("ff" * 32, "ff" * 16, "other")  # the same box, set up anew
        with pytest.raises(
            ConflictError, match=rf"by its id: {other.node_id[:12]} \(in reach\), ffffffffffff \(away\)"
        ):
            find_member("other", [*one.names.others(), anew], own=Pin("", "", "one"), linked={other.node_id})
        assert stands(one, other) == "alive"

    run(tmp_path, test)


def test_a_node_that_does_not_run_joins_in_its_data_folder(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other = await nodes.mesh_of("one", "other")
        invitation = await nodes.of(one).invite()
        (tmp_path / "new").mkdir()
        stopped = StoppedNode(tmp_path / "new", name="new", mesh=Address("127.0.0.1", 0))
        await stopped.join(invitation.code, [], leave=False)
        await until(lambda: invitation.joined == "new")
        new = await nodes.start("new", key="")
        await nodes.met(one, other, new)

    run(tmp_path, test)


def test_a_key_that_is_imported_brings_a_node_into_its_mesh(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, other = await nodes.mesh_of("one", "other")
        new = await nodes.start("new", key="")
        await nodes.of(new).take_key(mesh_key(bytes.fromhex(KEY)))
        new.join(nodes.shells.address[one.node_id])
        await nodes.met(one, other, new)
        with pytest.raises(ConflictError, match="--leave"):
            await nodes.of(new).take_key(mesh_key(bytes.fromhex(OTHER_KEY)))

    run(tmp_path, test)


def test_two_nodes_of_one_name_are_told_apart_by_whom_a_third_met_first(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one, box = await nodes.mesh_of("one", "box")
        (tmp_path / "twin").mkdir()
        twin = Mesh(
            data_dir=tmp_path / "twin",
            identity=load_identity(tmp_path / "twin"),
            keyring=Keyring(tmp_path / "twin", given=KEY),
            settings=one._settings,
            name="box",
            release="0.1.0",
            mesh=Address("127.0.0.1", 0),
            max_body_bytes=1 << 20,
        )
        await twin.start(http=1, grpc=2, zmq=3, tls_fingerprint="")
        nodes.shells.all.append(twin)
        twin.join(nodes.shells.address[one.node_id])
        await nodes.met(one, box, twin)
        assert one.by_id[box.node_id].name == "box"
        assert one.by_id[twin.node_id].name == f"box~{twin.node_id[:4]}"
        # Each of the two is itself to itself.
        assert box.by_id[twin.node_id].name == f"box~{twin.node_id[:4]}"

    run(tmp_path, test)


def test_invitations_at_once_let_in_as_many_nodes(tmp_path: Path) -> None:
    async def test(nodes: Houses) -> None:
        one = await nodes.start("one")
        new = [await nodes.start(f"new{number}", key="") for number in range(3)]  # of one address, no more at once
        invitations = [await nodes.of(one).invite() for _ in new]
        await asyncio.gather(
            *(nodes.of(mesh).join(invitation.code, None) for mesh, invitation in zip(new, invitations, strict=True))
        )
        await nodes.met(one, *new)

    run(tmp_path, test)
