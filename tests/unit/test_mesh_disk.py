"""What a node knows of its mesh outlives it, whatever its disk took at first."""

import asyncio
import errno
import secrets
from pathlib import Path

import pytest

from federation.keyring import Keyring
from federation.mesh_disk import MeshDisk
from federation.messages import Register, Stamp
from federation.pinned_names import Pin
from federation.registers import register_key
from tests.mesh.meshed import until

OWN = Pin("00" * 32, "a" * 32, "attic")
ALIAS = Register("alias", "acme/m", "prod", Stamp(1_790_000_000_000, 0, "a" * 32), "1.0.0")


class FullDisk:
    """Stands before what writes the keyring: that is written first, and nothing else where it cannot be."""

    def __init__(self, keyring: Keyring) -> None:
        self.is_full = True
        self.refused = 0
        self._write = keyring.write

    def write(self, content: bytes) -> None:
        if self.is_full:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self._write(content)


@pytest.mark.parametrize("is_tried_again", [True, False], ids=["while the node runs", "at its end"])
def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(tmp_path: Path, is_tried_again: bool) -> None:
    key = secrets.token_hex(32)

    async def run() -> Keyring:
        keyring = Keyring(tmp_path, given=key)
        disk = MeshDisk(tmp_path, keyring, OWN, again_s=0.001 if is_tried_again else 3600.0)
        full = FullDisk(keyring)
        keyring.write = full.write  # type: ignore[method-assign]
        keyring.rotate()
        disk.store([ALIAS], [])
        disk.save_soon(keyring=True)
        await until(lambda: full.refused > (1 if is_tried_again else 0))
        full.is_full = False
        if is_tried_again:
            await until(lambda: disk._writing is not None and disk._writing.done())
        await disk.close()
        return keyring

    changed = asyncio.run(run())

    async def read_again() -> MeshDisk:
        disk = MeshDisk(tmp_path, Keyring(tmp_path, given=key), OWN)
        await disk.close()
        return disk

    assert asyncio.run(read_again()).registers == {register_key(ALIAS): ALIAS}
    assert Keyring(tmp_path, given=key).current == changed.current


def test_a_disk_that_stays_full_lets_the_node_end(tmp_path: Path) -> None:
    async def run() -> None:
        keyring = Keyring(tmp_path)
        disk = MeshDisk(tmp_path, keyring, OWN, again_s=3600.0)
        keyring.write = FullDisk(keyring).write  # type: ignore[method-assign]
        disk.save_soon(keyring=True)
        await disk.close()

    asyncio.run(run())
