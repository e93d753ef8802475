"""Who this node is, for life: a CURVE key pair in its data folder. Its id is a digest of the public key.

Used by the gateway's process. Whoever reads the file can be this node, so it is the owner's alone.
"""

import hashlib
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

from appliance.core.durable import write_durably
from appliance.core.errors import IngleError

IDENTITY_FILE = "mesh.identity"
INCARNATION_FILE = "mesh.incarnation"
KEY_BYTES = 32


class Identity(msgspec.Struct, frozen=True):
    """A CURVE key pair, 32 bytes each."""

    public_key: bytes
    secret_key: bytes
    node_id: str

    def __repr__(self) -> str:
        return f"Identity({self.node_id})"  # never the secret


def node_id_of(public_key: bytes) -> str:
    """The id that belongs to a public key: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:32]


def identity_of(secret_key: bytes) -> Identity:
    """The identity of whoever holds this secret key of 32 bytes."""
    public_key = z85.decode(zmq.curve_public(z85.encode(secret_key)))
    return Identity(public_key, secret_key, node_id_of(public_key))


def new_identity() -> Identity:
    """An identity that nobody had before."""
    return identity_of(z85.decode(zmq.curve_keypair()[1]))


def load_identity(data_dir: Path) -> Identity:
    """The identity of the node with this data folder, made at its first start.

    Raises IngleError where the file is damaged: another identity would be another node to all its peers.
    """
    file = data_dir / IDENTITY_FILE
    if not file.exists():
        identity = new_identity()
        write_durably(file, identity.secret_key.hex().encode() + b"\n")
        return identity
    try:
        secret_key = bytes.fromhex(file.read_text().strip())
    except ValueError:
        secret_key = b""
    if len(secret_key) != KEY_BYTES:
        raise IngleError(
            f"{file} is damaged: it should hold {2 * KEY_BYTES} hexadecimal digits. Bring it back from a backup, or "
            "delete it: the node then comes back as another one"
        )
    return identity_of(secret_key)


def next_incarnation(data_dir: Path, unix_s: float) -> int:
    """The number of this start of the node: higher than that of any before, also where the clock was set back.

    It is near the Unix time in milliseconds, so that it also rises where the data folder came back from a backup.
    """
    file = data_dir / INCARNATION_FILE
    try:
        before = int(file.read_text())
    except (OSError, ValueError):
        before = 0
    incarnation = max(before + 1, int(unix_s * 1000))
    write_durably(file, b"%d\n" % incarnation)
    return incarnation
