"""The mesh of a node that does not run, changed in its data folder: join, take a key, leave. Used by the command line,
which holds the folder's lock meanwhile; the node finds at its start what was changed.

What needs the others, to invite, to rotate or to revoke, needs a running node.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from appliance.core.addresses import Address
from appliance.core.durable import disk_faults
from appliance.core.errors import ConflictError
from federation.credentials import introduce
from federation.identity import load_identity
from federation.interfaces import read_interfaces
from federation.invitation_code import Code
from federation.invitation_exchange import Grant
from federation.invite_client import Host, Joiner, join
from federation.key_rotation import join_refusal
from federation.keyring import Keyring, MeshKey
from federation.mesh_membership import find_inviting_or_say
from federation.messages import Introduction
from federation.own_addresses import own_addresses
from federation.pinned_names import Pin, PinnedNames
from federation.remembered import Remembered


class StoppedNode:
    """Made with the folder's lock held. Raises IngleError where what is kept there is damaged."""

    def __init__(self, data_dir: Path, *, name: str, mesh: Address, advertise: str = "") -> None:
        """`mesh`: where the node will listen; `advertise`: that of MeshSettings."""
        with disk_faults(data_dir):
            self.keyring = Keyring(data_dir)
            self._identity = load_identity(data_dir)
        self._data_dir = data_dir
        self._name = name
        self._address = mesh
        self._advertise = advertise
        self._names = PinnedNames(data_dir, own=Pin(self._identity.public_key.hex(), self._identity.node_id, name))
        self._remembered = Remembered(data_dir)

    async def join(self, code: Code, addresses: Sequence[Address], *, leave: bool) -> Host:
        """As MeshMembership.join(); without addresses the inviting node is looked for on the LAN."""
        self._refuse_to_leave(leave)
        me = Joiner(self._identity.node_id, self._name, self._identity.public_key)
        return await join(code, addresses or await find_inviting_or_say(code), me, self._keep)

    def take_key(self, key: MeshKey, *, leave: bool) -> None:
        """Joins the mesh whose key this is. Raises ConflictError where that would leave another."""
        if self.keyring.get(key.id) is None:
            self._refuse_to_leave(leave)
            self.keyring.replace(key)
            self._save([])

    def leave(self) -> None:
        """A mesh of one, with a key of its own. The others are not told: they see that this node is away."""
        self.keyring.leave()
        self._save([])

    async def _keep(self, grant: Grant) -> Introduction:
        self.keyring.adopt(grant.keys)
        await asyncio.to_thread(self._save, grant.members)
        return introduce(
            self._identity,
            self.keyring,
            name=self._name,
            addresses=own_addresses(read_interfaces(), bound_to=self._address.host, advertise=self._advertise),
            mesh_port=self._address.port,
            bulk_port=self._address.port + 1 if self._address.port else 0,
        )

    def _refuse_to_leave(self, leave: bool) -> None:
        if refusal := join_refusal([pin.name for pin in self._names.others()], leave=leave):
            raise ConflictError(refusal)

    def _save(self, members: Sequence[Introduction]) -> None:
        # The ring last: it is what decides to which mesh this node belongs.
        self._names.forget_all()
        self._remembered.forget_all()
        for member in members:
            self._remembered.met(member)
        self._remembered.save()
        self._names.save()
        with disk_faults(self._data_dir):
            self.keyring.save()
