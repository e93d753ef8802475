"""What proves that a node holds the mesh's key: an HMAC over its public key and its id. Pure; any process.

A credential is shown to everyone on the LAN. It lets its public key in, so that a stolen one is useless without the
secret key that belongs to it.
"""

import hashlib
import hmac
import time
from collections.abc import Callable

from federation.identity import Identity, node_id_of
from federation.keyring import Keyring, MeshKey
from federation.messages import Introduction

_CONTEXT = b"ingle-credential-1"


def make_credential(key: MeshKey, public_key: bytes, node_id: str) -> bytes:
    """The 32 bytes that this mesh key gives to this node."""
    return mac(key, _CONTEXT, key.id.encode(), public_key, node_id.encode())


def introduce(
    identity: Identity,
    keyring: Keyring,
    *,
    name: str,
    addresses: list[str],
    mesh_port: int,
    bulk_port: int,
    to: Introduction | None = None,
) -> Introduction:
    """How this node shows itself, with a credential of the keyring's current key.

    `to`: a believed node that is to see it. One that was away while the key was changed shows the old key, knows no
    other, and is shown a credential of that one.
    """
    key = keyring.current
    if to is not None:
        key = keyring.get(to.key_id) or keyring.get_retired(to.key_id, time.time()) or key
    return Introduction(
        node_id=identity.node_id,
        name=name,
        public_key=identity.public_key,
        key_id=key.id,
        credential=make_credential(key, identity.public_key, identity.node_id),
        addresses=addresses,
        mesh_port=mesh_port,
        bulk_port=bulk_port,
    )


def why_distrusted(
    introduction: Introduction, keyring: Keyring, was_member: Callable[[bytes], bool] = lambda _: False
) -> str:
    """Why this introduction proves nothing, as the end of a sentence; empty where it is to be believed.

    `was_member`: whether the node with this public key was ever met as a member; only then is a retired key good.
    """
    if introduction.node_id != node_id_of(introduction.public_key):
        return "its id is not that of its public key"
    if keyring.is_revoked(introduction.public_key):
        return "it was revoked"
    key = keyring.get(introduction.key_id)
    if key is None:
        key = keyring.get_retired(introduction.key_id, time.time())
        if key is not None and not was_member(introduction.public_key):
            return "it shows a key that was changed since, and was never met here: invite it"
    if key is None:
        return f"it belongs to another mesh: its key is {introduction.key_id[:16]!r}, which is not known here"
    expected = make_credential(key, introduction.public_key, introduction.node_id)
    if not hmac.compare_digest(expected, introduction.credential):
        return "its credential is forged: it was not made with the mesh's key"
    return ""


def mac(key: MeshKey, context: bytes, *fields: bytes) -> bytes:
    """HMAC-SHA256 over fields, each behind its length, so that none can be moved into another."""
    told = hmac.new(key.secret, context, hashlib.sha256)
    for field in fields:
        told.update(len(field).to_bytes(4, "little"))
        told.update(field)
    return told.digest()
