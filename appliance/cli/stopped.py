"""This box's node as it lies in its data folder while it does not run, for verbs that change its mesh."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.core.addresses import parse_address
from appliance.core.data_lock import lock_data_folder
from appliance.core.errors import ConflictError, UnsupportedError

if TYPE_CHECKING:
    from federation.stopped_node import StoppedNode


@contextmanager
def stopped_node() -> Iterator["StoppedNode"]:
    """The node of this box's settings, which cannot start meanwhile. Raises BusyError where it runs after all,
    UnsupportedError where it is to have no mesh, ConflictError where its settings name the mesh's key."""
    import os

    from appliance.node_mesh import given_key
    from appliance.settings import load_settings
    from federation.stopped_node import StoppedNode

    settings = load_settings()
    mesh = parse_address(settings.mesh)
    if mesh is None:
        raise UnsupportedError("this node is to have no mesh: its settings say mesh = off")
    if given_key(settings):
        raise ConflictError(
            "this node's mesh key is named by INGLE_MESH_KEY or mesh_key_file, which would bring it back into its mesh "
            "at its start: take that away first"
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = lock_data_folder(settings.data_dir)
    try:
        yield StoppedNode(settings.data_dir, name=settings.name, mesh=mesh, advertise=settings.federation.advertise)
    finally:
        os.close(lock)
