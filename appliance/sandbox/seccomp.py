"""seccomp: from then on this process makes only the system calls that its work needs; the kernel refuses others.

There are two filters, one on top of the other, since installing a long one takes as long as half of a fork's other
preparations: the zygote's lists all that is allowed and is inherited, a fork's takes from it what only a zygote needs.
Each is a program of the kernel's classic BPF, assembled here by hand: a binary search over the call's number. What is
refused gets an error and lives on, since foreign code tries things and does without; only a call in the manner of
another architecture, which no honest code makes, ends the process.
Sources: seccomp(2), linux/filter.h, linux/seccomp.h.
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

from appliance.sandbox import syscalls
from appliance.sandbox.kernel import system_call

_AUDIT_ARCH_BY_MACHINE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_ALLOW, _KILL_PROCESS, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000

_SET_MODE_FILTER = 1
# Else older kernels slow the whole process down, against a process that speculates on its own memory.
_FLAG_SPEC_ALLOW = 4

_X32_FROM = 0x40000000  # where x86-64's third way of calling has its numbers
_PR_SET_PDEATHSIG = 1
_CLONE_THREAD = 0x00010000
_CLONE_NEW_ANYTHING = 0x7E020080  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME
_OPEN_TO_WRITE = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_IOCTLS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS (isatty), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_TERMINAL_IOCTLS = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX, which type into someone's terminal
# All but those that have a signal sent to another process: F_SETOWN, F_SETSIG and their kin.
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1034)  # DUPFD, GETFD, SETFD, GETFL, SETFL, the locks, DUPFD_CLOEXEC, GET_SEALS
_PRCTLS = (3, 15, 16, 0x53564D41)  # GET_DUMPABLE, SET_NAME, GET_NAME, and SET_VMA, by which malloc names its memory

Instruction = tuple[int, int, int, int]  # code, how far to jump if true, if false, constant
Block = tuple[Instruction, ...]


def _answer(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


_ALLOWED: Block = (_answer(_ALLOW),)
_FORBIDDEN: Block = (_answer(_ERROR | errno.EPERM),)
_UNKNOWN: Block = (_answer(_ERROR | errno.ENOSYS),)

# Stands for the process's own id, which is known only after the fork; no other constant here is the same.
_OWN_PID = 0xFACEF11E


def _argument(index: int) -> Instruction:
    """Loads the lower half of an argument, which is all that the kernel looks at in those that are judged here."""
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)


def _only(index: int, values: tuple[int, ...]) -> Block:
    allowed = [step for value in values for step in ((_IF_EQUAL, 0, 1, value), _answer(_ALLOW))]
    return (_argument(index), *allowed, *_FORBIDDEN)


def _none_of(index: int, values: tuple[int, ...]) -> Block:
    forbidden = [step for value in values for step in ((_IF_EQUAL, 0, 1, value), *_FORBIDDEN)]
    return (_argument(index), *forbidden, *_ALLOWED)


def _no_bit(index: int, bits: int) -> Block:
    return (_argument(index), (_IF_ANY_BIT, 0, 1, bits), *_FORBIDDEN, *_ALLOWED)


def _itself() -> Block:
    """The first argument says that the second is a process and not a group, and the second that it is this one."""
    return (_argument(0), (_IF_EQUAL, 0, 2, 0), _argument(1), (_IF_EQUAL, 1, 0, 0), *_FORBIDDEN, *_ALLOWED)


def _null(index: int) -> Block:
    """Of a pointer both halves must be nothing."""
    load, arguments_at = _argument(index), _ARGUMENTS_AT + 8 * index
    return (load, (_IF_EQUAL, 0, 2, 0), (_LOAD, 0, 0, arguments_at + 4), (_IF_EQUAL, 1, 0, 0), *_FORBIDDEN, *_ALLOWED)


def _search(ranges: list[tuple[int, Block]]) -> Block:
    """Finds, by the number that is loaded, the block of the last range that begins at or before it."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    return ((_IF_AT_LEAST, len(low), 0, ranges[middle][0]), *low, *high)


def _found(block_by_number: dict[int, Block], otherwise: Block) -> Block:
    """Loads the call's number and does what the table says of it."""
    ranges = [(0, otherwise)]
    for number in sorted({edge for known in block_by_number for edge in (known, known + 1)}):
        block = block_by_number.get(number, otherwise)
        if number == ranges[-1][0]:
            ranges[-1] = (number, block)
        elif block != ranges[-1][1]:
            ranges.append((number, block))
    return ((_LOAD, 0, 0, _NUMBER_AT), *_search(ranges))


def _table(machine: str, *rows: tuple[str, Block], **by_name: Block) -> dict[int, Block]:
    table = {number: block for text, block in rows for _, number in syscalls.numbers(text, machine)}
    judged = syscalls.numbers(syscalls.BY_ARGUMENT, machine)
    return table | {number: by_name[name] for name, number in judged if name in by_name}


def forking_program(machine: str) -> Block:
    """The zygote's filter, which its forks inherit at no cost: all that any of them, and it, may do.

    What it does not know is refused as unknown; so are x32's calls, whose numbers are above all others.
    """
    table = _table(
        machine,
        (syscalls.ALLOWED, _ALLOWED),
        (syscalls.WRITING, _ALLOWED),
        (syscalls.FORKING, _ALLOWED),
        (syscalls.FORBIDDEN, _FORBIDDEN),
        clone=_no_bit(0, _CLONE_NEW_ANYTHING),
        kill=_ALLOWED,
        tgkill=_ALLOWED,
        prctl=_ALLOWED,
        open=_ALLOWED,
        openat=_ALLOWED,
        prlimit64=_only(0, (0,)),
        setpriority=_itself(),
        sched_setaffinity=_only(0, (0,)),
        ioctl=_none_of(1, _TERMINAL_IOCTLS),
        fcntl=_only(1, _FCNTLS),
    )
    architecture = _AUDIT_ARCH_BY_MACHINE[machine]
    return (
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, architecture),
        _answer(_KILL_PROCESS),
        *_found(table, _UNKNOWN),
    )


def computing_program(machine: str, *, writes: bool, devices: bool) -> Block:
    """A fork's filter, on top of the zygote's: what it must not do any more, now that foreign code will run in it.

    `writes`: files may be opened for writing; `devices`: any ioctl but a terminal's.
    """
    reads_only = {"open": _no_bit(1, _OPEN_TO_WRITE), "openat": _no_bit(2, _OPEN_TO_WRITE)}
    table = _table(
        machine,
        (syscalls.FORKING, _FORBIDDEN),
        (syscalls.WRITING, _ALLOWED if writes else _FORBIDDEN),
        # A thread of this process, and not a process.
        clone=(_argument(0), (_IF_ANY_BIT, 0, 1, _CLONE_THREAD), *_ALLOWED, *_FORBIDDEN),
        # abort() goes through tgkill.
        kill=_only(0, (_OWN_PID,)),
        tgkill=_only(0, (_OWN_PID,)),
        prctl=_only(0, _PRCTLS),
        prlimit64=_null(2),  # limits may be read
        **({} if writes else reads_only),
        **({} if devices else {"ioctl": _only(1, _IOCTLS)}),
    )
    return _found(table, _ALLOWED)


def building_program(machine: str) -> Block:
    """The filter of a process that runs a framework, which does much that nobody can list: all is allowed but what
    reaches beyond it. No other process or program, no socket to anywhere, no signal to others, nothing of a kernel's
    administration; and nothing that would let it outlive its parent.
    """
    table = _table(
        machine,
        (syscalls.FORBIDDEN, _FORBIDDEN),
        (syscalls.WITHIN, _ALLOWED),
        # Its flags lie in memory, where no filter looks: libc then makes its threads by the older call.
        (syscalls.UNSEEN, _UNKNOWN),
        clone=(_argument(0), (_IF_ANY_BIT, 0, 1, _CLONE_THREAD), *_ALLOWED, *_FORBIDDEN),
        kill=_only(0, (_OWN_PID,)),
        tgkill=_only(0, (_OWN_PID,)),
        prctl=_none_of(0, (_PR_SET_PDEATHSIG,)),
        ioctl=_none_of(1, _TERMINAL_IOCTLS),
    )
    return (
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, _AUDIT_ARCH_BY_MACHINE[machine]),
        _answer(_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 0, 1, _X32_FROM),
        *_UNKNOWN,
        *_found(table, _ALLOWED),
    )


class Filter(NamedTuple):
    """A program in memory, as the kernel takes it: all but the process's own id, which goes into it at `own_pid_at`."""

    code: ctypes.Array[ctypes.c_char]
    own_pid_at: tuple[int, ...]
    described: ctypes.Array[ctypes.c_char]  # struct sock_fprog, which has the code's address: the same after a fork
    seccomp_number: int


def _assembled(made: Callable[[str], Block]) -> Filter:
    machine = platform.machine()
    if machine not in syscalls.MACHINES:
        raise LookupError(f"the system calls of {machine} are not known here")
    steps = made(machine)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    at = tuple(8 * index + 4 for index, step in enumerate(steps) if step[3] == _OWN_PID)
    return Filter(code, at, described, dict(syscalls.numbers(syscalls.FORKING, machine))["seccomp"])


def forking() -> Filter:
    """The zygote's filter for this machine. Raises LookupError where its calls' numbers are not known here."""
    return _assembled(forking_program)


@cache
def computing(*, writes: bool, devices: bool) -> Filter:
    """A fork's filter for this machine, made once: ask for it before forking. Raises LookupError as forking() does."""
    return _assembled(partial(computing_program, writes=writes, devices=devices))


def building() -> Filter:
    """The filter of a framework's process for this machine. Raises LookupError as forking() does."""
    return _assembled(building_program)


def install(chosen: Filter, pid: int) -> None:
    """Installs the filter for this thread, whose process has this id, and for all threads made later.

    no_new_privs must be set. Raises OSError where the kernel refuses.
    """
    for at in chosen.own_pid_at:
        struct.pack_into("=I", chosen.code, at, pid)
    address = ctypes.addressof(chosen.described)
    try:
        system_call(chosen.seccomp_number, _SET_MODE_FILTER, _FLAG_SPEC_ALLOW, address)
    except OSError as error:
        if error.errno != errno.EINVAL:  # as a kernel before 4.17 says of the flag
            raise
        system_call(chosen.seccomp_number, _SET_MODE_FILTER, 0, address)
