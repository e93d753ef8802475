"""Triton's system shared memory extension: regions that callers on this box have registered, and places in them.

Runs in the gateway; the same for REST and gRPC. A region is a file of /dev/shm, opened when it is registered and held
open until it is unregistered and no call uses it. It is the key's that registered it: no other key can name it. The
file must belong to the user whose connection registers it, since the node may be able to open what that user may not.
"""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance.core.client_memory import MemorySpan, OpenFile
from appliance.core.errors import (
    BadInputError,
    BusyError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooLargeError,
    UnsupportedError,
)
from appliance.core.frames import SharedPlace
from appliance.gateway.peers import Peer, user_of
from appliance.security.scopes import Principal

FOLDER = Path("/dev/shm")
MAX_REGIONS = 256
MAX_NAME_CHARACTERS = 256
NO_CUDA = "this node offers no CUDA shared memory: register system shared memory, or send tensors in the request"
_MAX_KEY_BYTES = 255  # NAME_MAX of Linux's file systems
_LARGEST = 2**63 - 1


class RegionStatus(msgspec.Struct):
    """A region in the extension's own words."""

    name: str
    key: str
    offset: int
    byte_size: int


class _Region(NamedTuple):
    status: RegionStatus
    file: OpenFile


class SharedMemory:
    """The registry. `register` takes callers of this box alone, and anyone only where the owner allows it."""

    def __init__(self, *, allowed: bool, max_bytes: int, folder: Path = FOLDER) -> None:
        """`max_bytes` bounds what one call may read and write in its caller's memory."""
        self.allowed = allowed
        self._max_bytes = max_bytes
        self._folder = folder
        self._regions: dict[tuple[str, str], _Region] = {}

    def of(self, principal: Principal, peer: Peer) -> "CallerMemory":
        """The regions as one call of this caller may use them."""
        return CallerMemory(self, principal.key_id, peer, self._max_bytes)

    async def register(
        self, principal: Principal, peer: Peer, *, name: str, key: str, offset: int, byte_size: int
    ) -> None:
        """Opens the file `key`. Raises an IngleError with what is wrong: of the caller, the name, the key, the sizes,
        the file."""
        self.check_caller(peer)
        if not name or len(name) > MAX_NAME_CHARACTERS:
            raise BadInputError(
                f"a region's name has 1 to {MAX_NAME_CHARACTERS} characters, but {len(name)} came: choose a shorter one"
            )
        _check_size("offset", offset)
        _check_size("byte_size", byte_size)
        if not byte_size:
            raise BadInputError("a region's byte_size must be 1 or more")
        self._check_new(principal, name)
        file, size_bytes = await asyncio.to_thread(self._open, key, peer)
        self._check_new(principal, name)  # another may have come meanwhile
        if offset + byte_size > size_bytes:
            raise BadInputError(
                f"the shared memory '{key}' has {size_bytes} bytes, but offset {offset} and byte_size {byte_size} "
                f"need {offset + byte_size}"
            )
        self._regions[principal.key_id, name] = _Region(RegionStatus(name, key, offset, byte_size), file)

    def unregister(self, principal: Principal, name: str = "") -> None:
        """Forgets a region, or all of this caller's where no name is given. One that is not there is no fault. Calls
        under way keep what they use."""
        for place in [p for p in self._regions if p[0] == principal.key_id and (not name or p[1] == name)]:
            del self._regions[place]

    def status(self, principal: Principal, name: str = "") -> list[RegionStatus]:
        """This caller's regions, or the one of that name. Raises NotFoundError where it is not there."""
        mine = [
            region.status
            for (key_id, other), region in self._regions.items()
            if key_id == principal.key_id and (not name or other == name)
        ]
        if name and not mine:
            raise NotFoundError(f"there is no shared memory region '{name[:100]}' of this key: register it first")
        return mine

    def check_caller(self, peer: Peer) -> None:
        """Raises UnsupportedError where shared memory is off, ForbiddenError where the caller is on another box."""
        if not self.allowed:
            raise UnsupportedError(
                "shared memory is off on this node: its owner turns it on with --allow-shared-memory; until then, send "
                "tensors in the request"
            )
        if not peer.on_this_box:
            raise ForbiddenError(
                f"shared memory is for callers on the node's own box, not from {peer.host or 'elsewhere'}: "
                "connect by way of a loopback address, or send tensors in the request"
            )

    def region(self, key_id: str, name: str) -> _Region:
        """Raises BadInputError where this key has none of that name."""
        region = self._regions.get((key_id, name))
        if region is None:
            raise BadInputError(f"there is no shared memory region '{name[:100]}' of this key: register it first")
        return region

    def _check_new(self, principal: Principal, name: str) -> None:
        if (principal.key_id, name) in self._regions:
            raise ConflictError(f"the shared memory region '{name}' is registered already: unregister it first")
        if len(self._regions) >= MAX_REGIONS:
            raise BusyError(
                f"{MAX_REGIONS} shared memory regions are registered, which is as many as this node takes: unregister "
                "some"
            )

    def _open(self, key: str, peer: Peer) -> tuple[OpenFile, int]:
        """The file and its size. Blocks."""
        name = key.removeprefix("/")
        if not name or name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > _MAX_KEY_BYTES:
            raise BadInputError(
                f"'{key[:100]!s}' is no key of shared memory: expected a name within {self._folder}, without slashes"
            )
        user = user_of(peer)
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            file = _opened(name, folder)
            found, home = os.fstat(file.fd), os.fstat(folder)
        except OSError as error:
            raise BadInputError(f"the shared memory '{key}' cannot be opened: {error.strerror}") from None
        finally:
            os.close(folder)
        if not stat.S_ISREG(found.st_mode) or found.st_dev != home.st_dev:
            raise BadInputError(f"the shared memory '{key}' is no file of {self._folder} itself")
        if user is None or user not in (0, found.st_uid):
            raise ForbiddenError(f"the shared memory '{key}' belongs to another user of this box")
        return file, found.st_size


def _opened(name: str, folder: int) -> OpenFile:
    # A symbolic link is not followed, and a pipe not waited for.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return OpenFile(os.open(name, os.O_RDWR | flags, dir_fd=folder))
    except PermissionError:
        return OpenFile(os.open(name, os.O_RDONLY | flags, dir_fd=folder))  # inputs need no more


class CallerMemory:
    """The regions as one call may use them: made for it, and dropped with it."""

    __slots__ = ("_key_id", "_left_bytes", "_peer", "_regions")

    def __init__(self, regions: SharedMemory, key_id: str, peer: Peer, max_bytes: int) -> None:
        self._regions = regions
        self._key_id = key_id
        self._peer = peer
        self._left_bytes = max_bytes

    def span(self, tensor: str, parameters: dict[str, Any]) -> tuple[MemorySpan, SharedPlace]:
        """The place that a tensor's parameters name. Raises an IngleError with what is wrong with them."""
        self._regions.check_caller(self._peer)
        name = parameters.get("shared_memory_region")
        if not isinstance(name, str):
            raise BadInputError(f"tensor '{tensor[:100]}': shared_memory_region must be a region's name")
        size = _whole(tensor, parameters, "shared_memory_byte_size", None)
        offset = _whole(tensor, parameters, "shared_memory_offset", 0)
        region, file = self._regions.region(self._key_id, name)
        if offset + size > region.byte_size:
            raise BadInputError(
                f"tensor '{tensor[:100]}' lies at byte {offset} to {offset + size} of the shared memory region "
                f"'{name[:100]}', which has {region.byte_size} bytes"
            )
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise TooLargeError(
                f"the call uses more shared memory than this node takes for a call, with tensor '{tensor[:100]}' of "
                f"{size} bytes"
            )
        return MemorySpan(file, name, region.offset + offset, size), SharedPlace(name, offset, size)


def _whole(tensor: str, parameters: dict[str, Any], name: str, default: int | None) -> int:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise BadInputError(f"tensor '{tensor[:100]}': {name} is {value!r:.60}, expected a number of bytes")
    return value


def _check_size(name: str, value: int) -> None:
    if not 0 <= value <= _LARGEST:
        raise BadInputError(f"a region's {name} is {value}: expected a number of bytes from 0 to {_LARGEST}")
