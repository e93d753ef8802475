"""Confining the calling process, in layers: no network, no new privileges, bounded resources, few files, few system
calls, death with its parent.

Runs in the zygote (network and privileges, inherited by every worker at no cost) and in each worker (the others).
Linux only. Each layer is best effort and says what it got, since an appliance must also run on kernels that forbid
one of them.
Sources: unshare(2), user_namespaces(7), netdevice(7), prctl(2), getrlimit(2).
"""

import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from appliance.sandbox import landlock, seccomp
from appliance.sandbox.kernel import prctl, unshare

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914  # with a struct ifreq
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class Layer(NamedTuple):
    """One layer of the sandbox and whether it holds in this process; `detail` is a sentence for `ingle doctor`."""

    name: str
    active: bool
    detail: str


def leave_network() -> Layer:
    """Moves this process, and all it forks, into a network namespace with no interface up.

    Through a user namespace, which an ordinary user may make and which takes root's capabilities over the host away;
    where the kernel forbids that, directly, which needs root. The process must be single-threaded.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    except OSError as refused:
        try:
            unshare(_CLONE_NEWNET)
        except OSError:
            return Layer("network namespace", False, f"the kernel refused a user namespace ({refused.strerror})")
        return Layer("network namespace", True, "made directly, as root")
    # Inside, this user is itself and nobody else exists: file access stays as it was, set-user-ID means nothing.
    for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        try:
            Path("/proc/self", file).write_text(text)
        except OSError as error:
            return Layer("network namespace", True, f"through a user namespace without a mapping ({error.strerror})")
    return Layer("network namespace", True, "through a user namespace")


def raise_loopback() -> bool:
    """Brings up the loopback of the namespace that leave_network() made, for programs that talk to each other there;
    whether it is up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(
                any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP | _IFF_RUNNING | _IFF_LOOPBACK)
            )
        except OSError:
            return False
    return True


def forbid_new_privileges() -> Layer:
    """After this, no exec in this process or its children gains privileges (set-user-ID, file capabilities)."""
    try:
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
    except OSError as error:
        return Layer("no_new_privs", False, f"prctl failed: {error.strerror}")
    return Layer("no_new_privs", True, "set")


def die_with_parent() -> None:
    """Asks the kernel to SIGKILL this process when its parent ends. Not inherited: each fork asks anew."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_resources(*, data_bytes: int, open_files: int = 256, file_bytes: int = 0) -> Layer:
    """Bounds private memory (RLIMIT_DATA; 0: unbounded), open files and the size of a file that is written (0: none
    is), and forbids core dumps.

    RLIMIT_AS is not used: CUDA reserves address space by the terabyte.
    """
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_FSIZE, file_bytes),
    ]
    if data_bytes:
        wanted.append((resource.RLIMIT_DATA, data_bytes))
    refused = []
    for which, value in wanted:
        _, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        try:
            resource.setrlimit(which, (value, value))
        except (OSError, ValueError) as error:
            refused.append(str(error))
    # A write past RLIMIT_FSIZE should be an error for the writer, not its death.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if refused:
        return Layer("rlimits", False, "; ".join(refused))
    return Layer("rlimits", True, "data, open files, core and file size are bounded")


def confine_files(
    readable: Iterable[str],
    writable: Iterable[str] = (),
    folders: Iterable[str] = (),
    programs: Iterable[str] = (),
    *,
    tcp: bool = False,
) -> Layer:
    """Leaves this process, and all it forks, only these files and folders to open; what is open stays open. In
    `folders` it may also make and remove folders; what is in `programs` it may run. `tcp`: it may use TCP, for who has
    left the network.

    Paths that do not exist are passed over. no_new_privs must be set, and the process be single-threaded.
    """
    try:
        handled = landlock.ruleset(landlock.offered().abi, tcp=True) if tcp else landlock.offered()
        landlock.restrict_files(handled, readable, writable, folders, programs)
    except OSError as error:
        why = f"the kernel does not offer it ({error.strerror}): models can read what the node can"
        return Layer("Landlock", False, why)
    return Layer("Landlock", True, handled.sentence)


def confine_to_forking() -> Layer:
    """Leaves this process, and all it forks, the system calls of a zygote. No exec, no new socket, no other process's
    memory. no_new_privs must be set, and the process be single-threaded."""
    return _filtered(seccomp.forking)


def confine_to_computing(*, writes: bool = False, devices: bool = False) -> Layer:
    """Takes from a fork of such a zygote what computing does not need: forking, signals to others.

    `writes`: files may be opened for writing; `devices`: devices may be spoken to (ioctl). What seccomp.computing()
    makes before the fork saves each child the time. The process must be single-threaded.
    """
    return _filtered(partial(seccomp.computing, writes=writes, devices=devices))


def confine_to_building() -> Layer:
    """Leaves this process what a framework may want, and takes what reaches beyond the process: see
    seccomp.building_program(). no_new_privs must be set, and the process be single-threaded."""
    return _filtered(seccomp.building)


def _filtered(chosen: Callable[[], seccomp.Filter]) -> Layer:
    try:
        seccomp.install(chosen(), os.getpid())
    except LookupError as error:
        return Layer("seccomp", False, str(error.args[0]))
    except OSError as error:
        return Layer("seccomp", False, f"the kernel does not take a filter ({error.strerror})")
    return Layer("seccomp", True, "system calls that computing does not need are refused")
