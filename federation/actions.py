"""What MeshCore wants done: the whole of its way out. Structs and no behaviour; the shell (mesh.py) performs them in
the order in which they were given."""

import msgspec

from federation.messages import Head, Introduction, Register


class Send(msgspec.Struct, frozen=True):
    """Send one message on the links to these nodes: encode it once. A node without a link is passed over.
    `pad_bytes` of zeros follow the head as its body."""

    to: tuple[str, ...]
    head: Head
    pad_bytes: int = 0


class Dial(msgspec.Struct, frozen=True):
    """Get a link to this node, if there is none: introduce this node, then connect. It comes again, ever more rarely,
    until link_up(); the latest introduction is the one to use."""

    introduction: Introduction


class Cut(msgspec.Struct, frozen=True):
    """End all links with this node. The core takes them as ended already: link_down() need not follow."""

    node_id: str
    reason: str


class PeerChanged(msgspec.Struct, frozen=True):
    """MeshCore.peers changed by this node: how it stands, what it says of itself in HELLO, or it is there no more."""

    node_id: str


class CatalogueChanged(msgspec.Struct, frozen=True):
    """What MeshView says of these models (owner/name) may be otherwise now."""

    names: frozenset[str]


class StoreRegisters(msgspec.Struct, frozen=True):
    """Keep these registers over a restart, in place of those with the same kind, name and key; forget `gone`, which
    are (kind, name, key). Whoever acts on wishes (scale, traffic, copies, revoked nodes) reads them here."""

    registers: tuple[Register, ...]
    gone: tuple[tuple[str, str, str], ...] = ()


class Fault(msgspec.Struct, frozen=True):
    """Something that the owner should know, as a sentence. `node_id`: whom it is about; empty for this node."""

    node_id: str
    sentence: str


Action = Send | Dial | Cut | PeerChanged | CatalogueChanged | StoreRegisters | Fault
