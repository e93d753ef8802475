"""What a node keeps of its mesh over a restart, written in threads: the loop never waits for the disk.

Runs in the gateway's event loop. Owns the registers' file; keyring, names and peers met before have files of their own.
What a disk does not take, the log says, and it is tried again; the mesh goes on meanwhile.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.core.errors import IngleError
from federation.keyring import Keyring
from federation.messages import Register
from federation.pinned_names import Pin, PinnedNames
from federation.register_file import RegisterFile
from federation.registers import RegisterKey, register_key
from federation.remembered import Remembered

_SETTLE_S = 0.05  # changes come in swarms
_AGAIN_S = 10.0

_log = logging.getLogger("ingle.mesh")


class MeshDisk:
    """`registers` as they are to be kept, by kind, name and key. close() returns when all is written that the disk
    takes."""

    def __init__(self, folder: Path, keyring: Keyring, own: Pin, *, again_s: float = _AGAIN_S) -> None:
        """Reads all of it. Raises IngleError where the registers' file is damaged. `again_s`: how long after a disk
        did not take something that is tried again."""
        self._again_s = again_s
        self._keyring = keyring
        self._file = RegisterFile(folder)
        self.registers: dict[RegisterKey, Register] = {register_key(one): one for one in self._file.read()}
        self.names = PinnedNames(folder, own=own)
        self.remembered = Remembered(folder)
        self._changed: dict[RegisterKey, None] = {}
        self._keyring_changed = False
        self._writing: asyncio.Task[None] | None = None
        self._again = False
        self._closing = asyncio.Event()

    def store(self, registers: Sequence[Register], gone: Iterable[RegisterKey]) -> None:
        """Keeps these registers in place of those with the same kind, name and key, and forgets others."""
        for register in registers:
            self.registers[register_key(register)] = register
            self._changed[register_key(register)] = None
        for key in gone:
            self.registers.pop(key, None)
            self._changed[key] = None
        self.save_soon()

    def save_soon(self, *, keyring: bool = False) -> None:
        """Something changed: it is written in a moment."""
        self._keyring_changed |= keyring
        self._again = True
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        pause_s = _SETTLE_S
        while self._again and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()
            pause_s = _SETTLE_S if await self._write_now() else self._again_s

    async def _write_now(self) -> bool:
        """Whether the disk took it; else it is to be tried again."""
        self._again = False
        keyring = self._keyring.content() if self._keyring_changed else None
        changed, self._changed, self._keyring_changed = self._changed, {}, False
        kept = [self.registers[key] for key in changed if key in self.registers]
        gone = [key for key in changed if key not in self.registers]
        try:
            await asyncio.to_thread(self._write_all, keyring, kept, gone)
        except (IngleError, OSError) as error:
            _log.error("what this node knows of the mesh was not written down: %s", error)
            self._changed = changed | self._changed
            self._keyring_changed |= keyring is not None
            self._again = True
            return False
        return True

    def _write_all(self, keyring: bytes | None, kept: list[Register], gone: list[RegisterKey]) -> None:
        if keyring is not None:
            self._keyring.write(keyring)
        if kept or gone:
            self._file.write(kept, gone)
        self.names.save()
        self.remembered.save()

    async def close(self) -> None:
        """Writes what is left; what the disk does not take now is lost."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        await self._write_now()
        self._file.close()
