"""Which name belongs to which key: pinned at first sight, kept in the data folder. Runs in the gateway's process.

A person knows a node by its name, the mesh by its key. Whoever comes later with a name that another has is told apart
by a few digits of its id, so that a name always means the node that bore it first: a box that was put in another's
place is seen to be another, and of five that came out of their boxes with one name each can be named. What is
remembered here is also who was ever met as a member (key_rotation.py asks).
"""

import logging
from pathlib import Path

import msgspec

from federation.kept_file import KeptFile

NAMES_FILE = "mesh-names.json"
MAX_PINS = 2048
_MAX_FILE_BYTES = 1 << 20
_TELLING_DIGITS = 4

_log = logging.getLogger("ingle.mesh")


class Pin(msgspec.Struct, array_like=True, frozen=True):
    """A node that was met: its public key in hex, its id, and the name by which it goes."""

    public_key: str
    node_id: str
    name: str


class Sighting(msgspec.Struct, frozen=True):
    """`shown`: what people are to read. `other`: the id of the node that bore this name first, if that is another."""

    shown: str
    other: str = ""


class PinnedNames:
    """Pins by public key, the first met first. save() is for a thread: it waits for the disk."""

    def __init__(self, folder: Path, *, own: Pin) -> None:
        """Reads what is kept in `folder`; a damaged file is as none, and the log says so. `own`: this node, whose name
        is its own whatever others call themselves."""
        self._kept = KeptFile(folder / NAMES_FILE)
        self._own = own
        self._pins = {pin.public_key: pin for pin in self._read() if pin.public_key != own.public_key}

    def see(self, pin: Pin) -> Sighting:
        """A member is met under this name, which is pinned if nobody has it."""
        if pin.public_key != self._own.public_key and self._pins.get(pin.public_key) != pin:
            if pin.public_key not in self._pins and len(self._pins) >= MAX_PINS:
                del self._pins[next(iter(self._pins))]
            self._pins[pin.public_key] = pin
            self._kept.changed()
        first = self._first(pin.name)
        if first is None or first.public_key == pin.public_key:
            return Sighting(pin.name)
        return Sighting(f"{pin.name}~{pin.node_id[:_TELLING_DIGITS]}", first.node_id)

    def knows(self, public_key: bytes) -> bool:
        """Whether the node with this key was ever met as a member, and has not been forgotten since."""
        return public_key.hex() in self._pins

    def others(self) -> list[Pin]:
        """All that are remembered, this node not among them."""
        return list(self._pins.values())

    def forget(self, public_key: bytes) -> None:
        """It left the mesh, or was thrown out: its name is free."""
        if self._pins.pop(public_key.hex(), None) is not None:
            self._kept.changed()

    def forget_all(self) -> None:
        """This node has left its mesh."""
        if self._pins:
            self._pins.clear()
            self._kept.changed()

    def save(self) -> None:
        """Writes what changed since it was last written. Raises IngleError where the disk cannot."""
        self._kept.save(lambda: list(self._pins.values()))

    def _first(self, name: str) -> Pin | None:
        if name == self._own.name:
            return self._own
        return next((pin for pin in self._pins.values() if pin.name == name), None)

    def _read(self) -> list[Pin]:
        try:
            with self._kept.path.open("rb") as file:
                return msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=list[Pin])[:MAX_PINS]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            _log.warning(
                "which names other nodes had is forgotten, since %s cannot be read: %s", self._kept.path, error
            )
            return []
