"""The one way to calls of the Linux kernel that neither Python nor every libc has a name for. Runs in any process."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
# It is variadic, which on the machines that Linux runs on makes no difference to where longs are passed.
_syscall = _libc.syscall
_syscall.argtypes, _syscall.restype = (ctypes.c_long,) * 5, ctypes.c_long


def system_call(number: int, first: int, second: int, third: int, fourth: int = 0) -> int:
    """The call's result; numbers are the machine's own, memory is given by its address. Raises OSError as the kernel
    refuses it."""
    return checked(_syscall(number, first, second, third, fourth))


def checked(result: int) -> int:
    """`result` of a libc function that says -1 and sets errno. Raises OSError then."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, argument: int) -> int:
    """prctl(2). Raises OSError."""
    return checked(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0))


def unshare(flags: int) -> None:
    """unshare(2), which Python has from 3.12 on. Raises OSError."""
    checked(_libc.unshare(flags))
