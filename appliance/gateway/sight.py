"""What the management tells of the mesh from. A struct and what it expects of its parts; made by node.py.

Runs in the gateway. The parts are federation's Mesh and Discovery, and routing's OwnState.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from federation.keyring import Keyring
from federation.messages import Introduction, Load, ModelState
from federation.peer import Peer
from federation.sightings import OtherMesh


class KnownMesh(Protocol):
    """Who is there."""

    keyring: Keyring

    @property
    def introduction(self) -> Introduction:
        """How this node shows itself now."""

    @property
    def tags(self) -> list[str]:
        """Words that this node is known by."""

    @property
    def engine_kind(self) -> str:
        """What TensorRT's engines depend on here; empty where they are not shared."""

    def peers(self) -> list[Peer]:
        """All that are known but this node."""

    def awaited_s(self, node_id: str) -> float:
        """For how long a node has not come to this one's port for calls and copies, though it was asked to; else 0."""


class OwnFigures(Protocol):
    """How this node fares, in the mesh's words."""

    def load(self) -> Load:
        """The node as a whole, as it was at the last look."""

    def models(self) -> dict[str, ModelState]:
        """Its models, by model_key()."""


class Sight(NamedTuple):
    """`other_meshes`: those that are in sight and have other keys. `servers`: what is no node and takes calls."""

    mesh: KnownMesh
    figures: OwnFigures
    other_meshes: Callable[[], list[OtherMesh]] = list
    servers: Callable[[], list[Peer]] = list
