"""Landlock: from then on this process, and all it forks, opens only the files it is left, reaches no TCP port, and
signals nobody outside.

Needs no privilege but no_new_privs, and cannot be taken back. What it cannot do: hide that a path exists, its size and
its owner (stat(2) stays allowed), or take away what is open already.
Sources: landlock(7), linux/landlock.h; what each ABI has added is in the table below.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from appliance.sandbox.kernel import system_call

# On every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_REGULAR, TRUNCATE, IOCTL_DEVICE = 1 << 5, 1 << 8, 1 << 14, 1 << 15
REMOVE_FOLDER, MAKE_FOLDER, MOVE_BETWEEN_FOLDERS = 1 << 4, 1 << 7, 1 << 13
# How many rights over files each ABI knows: what is handled and not granted is refused.
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_FROM_ABI, _NET_BIND_AND_CONNECT = 4, 0b11
_SCOPE_FROM_ABI, _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11

_READ = READ_FILE | READ_DIR
_WRITE = _READ | WRITE_FILE | TRUNCATE | REMOVE_FILE | MAKE_REGULAR | IOCTL_DEVICE
_BUILD = _WRITE | REMOVE_FOLDER | MAKE_FOLDER | MOVE_BETWEEN_FOLDERS
# Of these, what can be granted on something that is no folder.
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE


class Ruleset(NamedTuple):
    """What is handled, so refused unless granted: the kernel's struct in memory, and the rights over files in it."""

    abi: int
    rights: int
    attributes: ctypes.Array[ctypes.c_char]
    sentence: str  # which says it to people


def ruleset(abi: int, *, tcp: bool = False) -> Ruleset:
    """All that a kernel of this ABI can refuse, but for TCP where that is granted."""
    rights = (1 << _RIGHTS_BY_ABI[min(abi, max(_RIGHTS_BY_ABI))]) - 1
    attributes, refused = struct.pack("=Q", rights), "any file but the model's and the runtime's"
    if abi >= _NET_FROM_ABI:
        attributes += struct.pack("=Q", 0 if tcp else _NET_BIND_AND_CONNECT)
        refused += "" if tcp else ", TCP"
    if abi >= _SCOPE_FROM_ABI:
        attributes += struct.pack("=Q", _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
        refused += ", signals to other processes"
    attributes_there = ctypes.create_string_buffer(attributes, len(attributes))
    return Ruleset(abi, rights, attributes_there, f"ABI {abi}, which refuses {refused}")


@cache
def offered() -> Ruleset:
    """What this kernel can refuse; asked once, so ask before forking. Raises OSError where it has no Landlock, or does
    not let this process use it."""
    return ruleset(system_call(_CREATE_RULESET, 0, 0, _VERSION_FLAG))


def restrict_files(
    handled: Ruleset,
    readable: Iterable[str],
    writable: Iterable[str],
    folders: Iterable[str] = (),
    programs: Iterable[str] = (),
) -> None:
    """Leaves this thread, and what it makes, only these files and folders and what is beneath them.

    `writable` may also be read; in `folders` folders may be made and removed too; `programs` may be run. Paths
    that do not exist are passed over. Raises OSError where the kernel refuses.
    """
    handle = system_call(_CREATE_RULESET, ctypes.addressof(handled.attributes), len(handled.attributes), 0)
    try:
        for paths, wanted in ((readable, _READ), (writable, _WRITE), (folders, _BUILD), (programs, EXECUTE)):
            for path in paths:
                _allow(handle, path, wanted & handled.rights)
        system_call(_RESTRICT_SELF, handle, 0, 0)
    finally:
        os.close(handle)


_rule = ctypes.create_string_buffer(12)  # struct landlock_path_beneath_attr, which is packed
_rule_address = ctypes.addressof(_rule)


def _allow(handle: int, path: str, wanted: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # what cannot be reached needs no permission
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            wanted &= _OF_A_FILE
        struct.pack_into("=Qi", _rule, 0, wanted, fd)
        system_call(_ADD_RULE, handle, _RULE_PATH_BENEATH, _rule_address)
    finally:
        os.close(fd)
