"""API keys are good on every node of the mesh: what is made, limited or revoked on one holds on all.

Runs in the gateway's event loop; the key ring is read and written in a thread. Nodes tell each other hashes, never
secrets. What is used of a quota each node counts for itself.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from appliance.core.errors import BadInputError, IngleError
from appliance.security.keys import KeyRing, SharedKey
from federation.mesh import Mesh
from federation.messages import Register

RETRY_S = 10.0  # after the disk did not take a key
KIND = "key"  # of a register: its name is the key's id

_log = logging.getLogger("ingle.mesh")


class MeshKeys:
    """start() once the mesh has started."""

    def __init__(self, keys: KeyRing, mesh: Mesh) -> None:
        self._keys = keys
        self._mesh = mesh
        self._told: list[Register] = []
        self._waiting: dict[str, Register] = {}  # what the disk did not take yet, by the key's id
        self._wake = asyncio.Event()
        self._own_changed = True
        self._left = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keys.on_change = self._changed
        self._mesh.on_left = self._on_left
        self._told = [register for register in self._mesh.registers if register.kind == KIND]
        self._wake.set()
        self._task = self._loop.create_task(self._follow())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def on_registers(self, registers: Iterable[Register]) -> None:
        """Some were written, here or elsewhere."""
        told = [register for register in registers if register.kind == KIND]
        if told:
            self._told += told
            self._wake.set()

    def _on_left(self) -> None:
        """The keys of the mesh that this node was in are not those of the next one."""
        self._told, self._waiting, self._left, self._own_changed = [], {}, True, True
        self._wake.set()

    def _changed(self) -> None:
        self._loop.call_soon_threadsafe(self._changed_here)

    def _changed_here(self) -> None:
        self._own_changed = True
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._left or self._waiting else None):
                    await self._wake.wait()
            self._wake.clear()
            told, self._told = [*self._waiting.values(), *self._told], []
            try:
                if self._left:
                    await self._drop_taken()
                for register in told:
                    await self._take(register)
                if self._own_changed and not self._left:
                    self._own_changed = False
                    await self._tell()
            except Exception:  # keys must go on being told, whatever one of them was
                _log.exception("a fault of ours in the keys of the mesh")

    async def _drop_taken(self) -> None:
        try:
            await asyncio.to_thread(self._keys.drop_taken)
        except IngleError as error:
            _log.warning("the keys of the mesh that was left are good here still: %s", error)
        else:
            self._left = False

    async def _take(self, register: Register) -> None:
        self._waiting.pop(register.name, None)
        try:
            key = msgspec.json.decode(register.value, type=SharedKey)
            if key.id == register.name and await asyncio.to_thread(self._keys.take, key):
                _log.info("the API key %s (%s) is as another node of the mesh has it", key.id, key.label)
        except (msgspec.MsgspecError, BadInputError) as error:
            _log.warning("a key of the mesh is not taken: %s", error)
        except IngleError as error:
            _log.warning("the API key %s is not taken yet as another node has it: %s", register.name, error)
            self._waiting[register.name] = register

    async def _tell(self) -> None:
        """Writes the registers of keys that the mesh knows otherwise, or not at all; but what waits for the disk is
        newer than what lies here."""
        known = {register.name: register.value for register in self._mesh.registers if register.kind == KIND}
        for key in await asyncio.to_thread(self._keys.shared):
            value = msgspec.json.encode(key).decode()
            if known.get(key.id) != value and key.id not in self._waiting:
                self._mesh.write_register(kind=KIND, name=key.id, key="", value=value)
