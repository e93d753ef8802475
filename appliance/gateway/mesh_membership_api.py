"""Who belongs to the mesh, over HTTP: invitations, joining, leaving, the key's rotation, revocations. In the gateway.

All of it needs an admin key. The mesh key itself is taken and never told: what reads it is the command line on this
box, as the user whose file it is. What each act means is federation/mesh_membership.py's.
"""

import time
from typing import TYPE_CHECKING, Annotated

import msgspec
from aiohttp import web

from appliance.core.errors import NotFoundError, UnavailableError
from appliance.gateway.asked import asked_json, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Body, Operation, Parameter, Reply
from appliance.gateway.patterns import whole
from appliance.gateway.replies import json_reply
from federation.invitation_code import ALPHABET, LABEL_CHARACTERS, parse_code
from federation.invitations import Invitation
from federation.invite_client import parse_invite_address
from federation.keyring import parse_mesh_key

if TYPE_CHECKING:
    from federation.mesh_membership import MeshMembership

_LABEL = Parameter(
    "label",
    "path",
    {"type": "string", "pattern": whole(f"[{ALPHABET}]{{{LABEL_CHARACTERS}}}")},
    "the first three characters of the invitation's code",
)
_Text = Annotated[str, msgspec.Meta(max_length=300)]


class MemberDescription(msgspec.Struct):
    """A node of the mesh that was met, and may be away."""

    node_id: str
    name: str


class KeyState(msgspec.Struct):
    """A key that lets nodes in, without its secret."""

    key_id: str
    current: bool


class InvitationDescription(msgspec.Struct, omit_defaults=True):
    """`code` is told once, when it is made. `standing`: open, joined, expired, spent (too many wrong codes), withdrawn.
    `joined`: the node that did. `notes`: what happened to it, sentences for people. `trouble`: why a new node cannot
    find this one by the code alone."""

    label: str
    standing: str
    ends_in_s: float
    tries_left: int
    joined: str = ""
    notes: list[str] = []
    addresses: list[str] = []
    code: str = ""
    trouble: str = ""


class InvitationList(msgspec.Struct):
    invitations: list[InvitationDescription]


class MeshDescription(msgspec.Struct):
    """`provisional`: this node made its key itself, and has met no other. `rotation`: done, or what it waits for:
    `waits_for` are ids of nodes. `revoked`: how many nodes were thrown out."""

    node_id: str
    name: str
    key_id: str
    provisional: bool
    keys: list[KeyState]
    members: list[MemberDescription]
    rotation: str
    waits_for: list[str]
    revoked: int


class JoinRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`address`: HOST:PORT of the inviting node, where it cannot be found by the code. `leave`: also where this node
    leaves a mesh with others."""

    code: _Text
    address: _Text = ""
    leave: bool = False


class KeyImport(msgspec.Struct, forbid_unknown_fields=True):
    """`key`: 64 hexadecimal digits. `leave` as in JoinRequest."""

    key: _Text
    leave: bool = False


class RevocationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`node`: its name, or the first six or more digits of its id."""

    node: _Text
    why: _Text = ""


class Joined(msgspec.Struct):
    """The node that let this one in, and the mesh's key now."""

    node_id: str
    name: str
    address: str
    key_id: str


OPERATIONS = (
    Operation(
        "describe_mesh",
        "GET",
        "/v1/mesh",
        "mesh",
        "Describe this node's mesh: its key's id, its members, a rotation's progress",
        {200: Reply("The mesh.", MeshDescription)},
        (404,),
    ),
    Operation(
        "list_invitations",
        "GET",
        "/v1/mesh/invitations",
        "mesh",
        "List the invitations that are open or ended lately, without their codes",
        {200: Reply("The invitations.", InvitationList)},
        (404,),
    ),
    Operation(
        "invite",
        "POST",
        "/v1/mesh/invitations",
        "mesh",
        "Make a code with which one new node may join within ten minutes",
        {201: Reply("The invitation, with its code.", InvitationDescription)},
        (404, 429, 503),
    ),
    Operation(
        "withdraw_invitation",
        "DELETE",
        "/v1/mesh/invitations/{label}",
        "mesh",
        "End an invitation",
        {200: Reply("The invitation as it is now.", InvitationDescription)},
        (404,),
        (_LABEL,),
    ),
    Operation(
        "rotate_mesh_key",
        "POST",
        "/v1/mesh/rotate",
        "mesh",
        "Give the mesh a new key; nothing is interrupted",
        {200: Reply("The mesh; the new key is on its way to all.", MeshDescription)},
        (404, 429, 503),
    ),
    Operation(
        "revoke_node",
        "POST",
        "/v1/mesh/revocations",
        "mesh",
        "Throw a node out for good, and change the key for all others",
        {200: Reply("Who was thrown out.", MemberDescription)},
        (404, 409, 413, 415, 503),
        body=Body({"application/json": RevocationRequest}),
    ),
)
# Served, and told of in words, but no operations of the document: whoever tries every operation in turn would take the
# node out of its mesh with these.
UNLISTED = (
    Operation(
        "join_mesh",
        "POST",
        "/v1/mesh/join",
        "mesh",
        "Join the mesh of the node that made this code",
        {200: Reply("Joined.", Joined)},
        (404, 409, 413, 429, 503),
        body=Body({"application/json": JoinRequest}),
    ),
    Operation(
        "import_mesh_key",
        "POST",
        "/v1/mesh/key",
        "mesh",
        "Join the mesh whose key this is",
        {200: Reply("The mesh.", MeshDescription)},
        (409, 413, 415),
        body=Body({"application/json": KeyImport}),
    ),
    Operation(
        "leave_mesh",
        "POST",
        "/v1/mesh/leave",
        "mesh",
        "Leave the mesh: this node is alone then, with a key of its own",
        {200: Reply("The mesh of one.", MeshDescription)},
        (404,),
    ),
)


class MeshMembershipApi:
    """The handlers, over one data plane's mesh."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def describe_mesh(self, request: web.Request) -> web.Response:
        return json_reply(_mesh(self._asked(request)))

    async def list_invitations(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        return json_reply(InvitationList([_invitation(membership, one) for one in membership.invitations()]))

    async def invite(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        try:
            made = await membership.invite()
        except OSError as error:
            raise UnavailableError(f"no port can be had for the invitation: {error.strerror or error}") from None
        return json_reply(_invitation(membership, made, code=str(made.code)), 201)

    async def withdraw_invitation(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        return json_reply(_invitation(membership, membership.withdraw(request.match_info["label"])))

    async def join_mesh(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        wanted = await asked_json(request, JoinRequest)
        code = parse_code(wanted.code)
        address = parse_invite_address(wanted.address) if wanted.address else None
        host = await membership.join(code, address, leave=wanted.leave)
        return json_reply(Joined(host.node_id, host.name, str(host.address), membership.describe().key_id))

    async def import_mesh_key(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        wanted = await asked_json(request, KeyImport)
        await membership.take_key(parse_mesh_key(wanted.key), leave=wanted.leave)
        return json_reply(_mesh(membership))

    async def leave_mesh(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        await membership.leave()
        return json_reply(_mesh(membership))

    async def rotate_mesh_key(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        await membership.rotate()
        return json_reply(_mesh(membership))

    async def revoke_node(self, request: web.Request) -> web.Response:
        membership = self._asked(request)
        wanted = await asked_json(request, RevocationRequest)
        revoked = await membership.revoke(wanted.node, wanted.why)
        return json_reply(MemberDescription(revoked.node_id, revoked.name))

    def _asked(self, request: web.Request) -> "MeshMembership":
        who(request, self._dataplane).require("admin", None)
        if self._dataplane.membership is None:
            raise NotFoundError("this node has no mesh: it was started with --mesh off")
        return self._dataplane.membership


def _mesh(membership: "MeshMembership") -> MeshDescription:
    known = membership.describe()
    return MeshDescription(
        node_id=known.node_id,
        name=known.name,
        key_id=known.key_id,
        provisional=known.provisional,
        keys=[KeyState(key_id, key_id == known.key_id) for key_id in known.key_ids],
        members=[MemberDescription(pin.node_id, pin.name) for pin in known.members],
        rotation=known.step.act,
        waits_for=list(known.step.waits_for),
        revoked=known.revoked,
    )


def _invitation(membership: "MeshMembership", invitation: Invitation, code: str = "") -> InvitationDescription:
    return InvitationDescription(
        label=invitation.code.label,
        standing=invitation.standing,
        ends_in_s=max(0.0, round(invitation.ends_s - time.monotonic(), 1)),
        tries_left=invitation.tries_left,
        joined=invitation.joined,
        notes=invitation.notes,
        addresses=membership.invite_addresses if invitation.standing == "open" else [],
        code=code,
        trouble=membership.invite_trouble,
    )
