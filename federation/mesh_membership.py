"""Who belongs to this node's mesh, as its owner decides: invite, join, leave, rotate the key, revoke. Runs in the
gateway's loop, over a running Mesh; stopped_node.py does what can be done without one.

Owns open invitations. What is decided here takes effect at once, on links that are up, and is on the disk when a method
returns.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from appliance.core.addresses import Address
from appliance.core.durable import disk_faults
from appliance.core.errors import BadInputError, ConflictError, NotFoundError
from federation.advertisement import usable_addresses
from federation.identity import Identity
from federation.invitation_code import Code
from federation.invitation_exchange import Grant
from federation.invitations import Invitation
from federation.invite_client import Host, Joiner, join
from federation.invite_discovery import InviteAnnouncer, find_inviting
from federation.invite_server import InviteServer
from federation.key_rotation import Step, join_refusal
from federation.keyring import Keyring, MeshKey
from federation.messages import Introduction
from federation.pinned_names import Pin, PinnedNames

# An invitation is answered there, seen from the mesh's port; on any other where that is taken.
PORT_OFFSET = 2
_MIN_ID_DIGITS = 6


_log = logging.getLogger("ingle.mesh")


class JoinableMesh(Protocol):
    """What this asks of federation/mesh.py."""

    keyring: Keyring
    names: PinnedNames

    @property
    def rotation(self) -> Step:
        """How far a rotation of the key is."""

    @property
    def introduction(self) -> Introduction: ...

    def linked(self) -> list[Introduction]:
        """Those with whom there is a link."""

    def introduced(self, introduction: Introduction) -> str: ...

    async def say_goodbye(self) -> None: ...

    def write_register(self, *, kind: str, name: str, key: str, value: str) -> None: ...

    def forget_mesh(self) -> None:
        """Ends all links, and forgets every peer and what they said."""


class Described(NamedTuple):
    """This node's mesh as it is now. `key_ids`: all that let any node in, the newest first."""

    node_id: str
    name: str
    key_id: str
    key_ids: list[str]
    provisional: bool
    members: list[Pin]
    step: Step
    revoked: int


class MeshMembership:
    """Made with a Mesh; close() before that is stopped."""

    def __init__(
        self,
        mesh: JoinableMesh,
        identity: Identity,
        *,
        name: str,
        address: Address,
        advertise: str,
        key_is_given: bool = False,
    ) -> None:
        """`address`: where the mesh listens; `advertise`: that of MeshSettings; `key_is_given`: the owner named the
        key, and does so at the next start."""
        self._mesh = mesh
        self._keyring = mesh.keyring
        self._identity = identity
        self._name = name
        self._key_is_given = key_is_given
        self._bound_to = address.host
        port = address.port + PORT_OFFSET if address.port else 0
        self._server = InviteServer(self, address.host, port if port < 65536 else 0, on_change=self._announce_soon)
        self._announcer = InviteAnnouncer(address.host, advertise)
        self._announcing: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    async def close(self) -> None:
        """Withdraws what is open."""
        await self._server.close()
        if self._announcing is not None:
            await self._announcing
        await self._announcer.close()

    def describe(self) -> Described:
        """What the mesh is, without its secrets."""
        return Described(
            self._identity.node_id,
            self._name,
            self._keyring.current.id,
            [key.id for key in self._keyring.keys],
            self._keyring.provisional,
            self._mesh.names.others(),
            self._mesh.rotation,
            self._keyring.revoked_count,
        )

    # Inviting.

    async def invite(self) -> Invitation:
        """A new invitation; the LAN knows of it when this returns. Raises BusyError, OSError."""
        invitation = await self._server.invite()
        if self._announcing is not None:
            await self._announcing
        return invitation

    @property
    def invite_addresses(self) -> list[str]:
        """HOST:PORT at which open invitations are answered."""
        if not self._server.port:
            return []
        return [str(Address(host, self._server.port)) for host in self._mesh.introduction.addresses]

    @property
    def invite_trouble(self) -> str:
        """Why a new node must be told where to ask; empty where it finds this one by the code alone."""
        return self._announcer.trouble

    def invitations(self) -> list[Invitation]:
        """Those that are open, and those that ended lately."""
        return self._server.invitations()

    def withdraw(self, label: str) -> Invitation:
        """Ends an invitation. Raises NotFoundError."""
        return self._server.withdraw(label)

    def _announce_soon(self) -> None:
        self._announcing = asyncio.get_running_loop().create_task(self._announce(self._announcing))

    async def _announce(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await self._announcer.announce(self._server.open_labels, self._server.port)

    # Inviter: what the server asks.

    def me(self) -> Introduction:
        """This node, as it is reached."""
        return self._mesh.introduction

    def is_revoked(self, public_key: bytes) -> bool:
        """Whether the node of this key was revoked from the mesh."""
        return self._keyring.is_revoked(public_key)

    def grant(self) -> Grant:
        """What a node that joins is given."""
        return Grant(self._keyring.message(), [self._mesh.introduction, *self._mesh.linked()][:200])

    async def welcome(self, introduction: Introduction, host: str) -> None:
        """Lets a node in that has joined, from this IP address."""
        addresses = usable_addresses([*introduction.addresses, host])
        if why := self._mesh.introduced(replace(introduction, addresses=addresses)):
            _log.warning("'%s' has joined, and cannot be met: %s", introduction.name, why)

    # Changing the mesh that this node is in.

    async def join(self, code: Code, address: Address | None, *, leave: bool = False) -> Host:
        """Joins the mesh of the node that has this invitation open; without an address it is looked for on the LAN.

        Raises ConflictError where this node would leave a mesh and `leave` was not said, BadInputError where it asks
        itself, and as invite_client.join() does.
        """
        async with self._changing:
            self._refuse_to_leave(leave)
            if any(invitation.code.label == code.label for invitation in self._server.invitations()):
                raise BadInputError("this node itself made that code: type it on the box that is to join")
            addresses = [address] if address is not None else await find_inviting_or_say(code, self._bound_to)
            me = Joiner(self._identity.node_id, self._name, self._identity.public_key)
            return await join(code, addresses, me, self._keep)

    async def take_key(self, key: MeshKey, *, leave: bool = False) -> None:
        """Joins the mesh whose key this is. Raises ConflictError as join() does."""
        async with self._changing:
            if self._keyring.get(key.id) is not None:
                return
            self._refuse_to_leave(leave)
            await self._mesh.say_goodbye()
            self._keyring.replace(key)
            self._mesh.forget_mesh()
            await self._save()

    async def leave(self) -> None:
        """Leaves the mesh, and tells its members: a mesh of one, with a key of its own. Raises ConflictError where the
        key was named by the owner."""
        async with self._changing:
            self._refuse_for_given_key()
            await self._mesh.say_goodbye()
            self._keyring.leave()
            self._mesh.forget_mesh()
            await self._save()

    async def _keep(self, grant: Grant) -> Introduction:
        # On the disk first: what cannot be written changes nothing.
        await self._write(self._keyring.content_of(grant.keys))
        await self._mesh.say_goodbye()
        self._keyring.adopt(grant.keys)
        self._mesh.forget_mesh()
        for member in grant.members:
            self._mesh.introduced(member)
        return self._mesh.introduction

    def _refuse_for_given_key(self) -> None:
        if self._key_is_given:
            raise ConflictError(
                "this node's mesh key is named by INGLE_MESH_KEY or --mesh-key-file, which would bring it back into "
                "its mesh at the next start: start it without that first"
            )

    def _refuse_to_leave(self, leave: bool) -> None:
        self._refuse_for_given_key()
        if refusal := join_refusal([pin.name for pin in self._mesh.names.others()], leave=leave):
            raise ConflictError(refusal)

    async def _save(self) -> None:
        await self._write(self._keyring.content())

    async def _write(self, content: bytes) -> None:
        with disk_faults(self._keyring.folder):
            await asyncio.to_thread(self._keyring.write, content)

    # The key, and who is thrown out.

    async def rotate(self) -> MeshKey:
        """A new key on its way to all members; it becomes current when all that live have it. Raises BusyError, and
        IngleError where the disk takes nothing: there is no new key then."""
        await self._save()
        key = self._keyring.prepare()
        await self._save()
        return key

    async def revoke(self, node: str, why: str) -> Pin:
        """Throws a member out for good, named by its name or its id's first digits: its links end everywhere, and the
        key is changed for all but it. Raises NotFoundError, ConflictError; and IngleError where that is so, and the
        disk does not take it yet."""
        linked = {introduction.node_id for introduction in self._mesh.linked()}
        own = Pin("", self._identity.node_id, self._name)
        pin = find_member(node, self._mesh.names.others(), own=own, linked=linked)
        public_key = bytes.fromhex(pin.public_key)
        self._mesh.write_register(kind="node", name=pin.public_key, key="revoked", value=why or "revoked")
        self._keyring.revoke([public_key])
        self._keyring.rotate_at_once()
        self._mesh.names.forget(public_key)
        await self._save()
        return pin


def find_member(text: str, pins: Sequence[Pin], *, own: Pin, linked: Collection[str]) -> Pin:
    """The member that is meant: by its whole id or at least six digits of it, or by its name. `linked`: the ids of
    those in reach. Raises NotFoundError, and ConflictError where it is this node, or where
    several are meant."""
    wanted = text.strip()
    if wanted in (own.node_id, own.name) and not any(pin.name == wanted for pin in pins):
        raise ConflictError("this is the node you are asking: it leaves with `ingle mesh leave`")
    by_id = [pin for pin in pins if len(wanted) >= _MIN_ID_DIGITS and pin.node_id.startswith(wanted.lower())]
    name, _, digits = wanted.partition("~")
    by_name = [pin for pin in pins if pin.name == name and pin.node_id.startswith(digits)]
    found = by_id or by_name
    if not found:
        known = ", ".join(f"{pin.name} ({pin.node_id[:8]})" for pin in pins[:8]) or "no other node"
        raise NotFoundError(f"no member is called {wanted[:64]!r}: this mesh has {known}")
    if len(found) > 1:
        ids = ", ".join(f"{pin.node_id[:12]} ({'in reach' if pin.node_id in linked else 'away'})" for pin in found[:8])
        raise ConflictError(f"{len(found)} members are called {wanted[:64]!r}: name one by its id: {ids}")
    return found[0]


async def find_inviting_or_say(code: Code, bound_to: str = "0.0.0.0") -> list[Address]:
    """Where the invitation is answered, by multicast DNS. Raises NotFoundError with what to do where nobody says."""
    try:
        found = await find_inviting(code.label, bound_to=bound_to)
        reason = ""
    except OSError as error:
        found, reason = [], f" ({error})"
    if not found:
        raise NotFoundError(
            f"no node on this LAN says that it has the invitation {code.label} open{reason}: it was used or is over "
            "(invite anew), the code's first three characters are others, or multicast is blocked (name the node: "
            "`ingle mesh join CODE HOST:PORT`, as `ingle mesh invite` printed it)"
        )
    return found
