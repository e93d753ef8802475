"""The peers met before, kept in the data folder, so that a mesh finds itself again where multicast is blocked.

Owned by the node's process. An introduction is remembered once its node was really met, over a link that is trusted;
at the next start each is handed on as any other: who was revoked meanwhile is refused then, and whoever is gone costs a
dial now and then. Knows nothing of links or life.
"""

import logging
from pathlib import Path

import msgspec
from msgspec.structs import replace

from federation.advertisement import usable_addresses
from federation.kept_file import KeptFile
from federation.messages import Introduction

FILE_NAME = "mesh-peers.json"
MAX_PEERS = 256
_MAX_FILE_BYTES = 1 << 20

_log = logging.getLogger("ingle.mesh")


class Remembered:
    """Introductions by node id, the last met last. save() is for a thread: it waits for the disk."""

    def __init__(self, folder: Path) -> None:
        """Reads what is kept in `folder`. A file that is damaged is as none: the log says so."""
        self._kept = KeptFile(folder / FILE_NAME)
        self._peers = {peer.node_id: peer for peer in self._read()}

    def peers(self) -> list[Introduction]:
        """The last met first."""
        return list(reversed(self._peers.values()))

    def met(self, introduction: Introduction) -> None:
        """Remembers it as it is now; addresses that it had before stand behind those that it has."""
        before = self._peers.pop(introduction.node_id, None)
        # A scope (fe80::1%2) is the number of an interface of today.
        told = [address for address in introduction.addresses if "%" not in address]
        addresses = usable_addresses([*told, *(before.addresses if before else ())])
        self._peers[introduction.node_id] = replace(introduction, addresses=addresses)
        while len(self._peers) > MAX_PEERS:
            del self._peers[next(iter(self._peers))]
        self._kept.changed()

    def forget(self, node_id: str) -> None:
        """It was revoked, or left the mesh for good."""
        if self._peers.pop(node_id, None) is not None:
            self._kept.changed()

    def forget_all(self) -> None:
        """This node left its mesh."""
        self._peers.clear()
        self._kept.changed()

    def save(self) -> None:
        """Writes what changed since it was last written, durably. Raises IngleError where the disk cannot."""
        self._kept.save(lambda: list(self._peers.values()))

    def _read(self) -> list[Introduction]:
        try:
            with self._kept.path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES)
            return msgspec.json.decode(content, type=list[Introduction])[-MAX_PEERS:]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the peers met before are forgotten, since %s cannot be read: %s", self._kept.path, error)
            return []
