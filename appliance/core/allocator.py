"""Keeping the C library's allocator from holding what was freed: large blocks go back at once, the rest now and then.

Used by the gateway and the front processes, which live for months. glibc raises the size from which it maps blocks each
time a larger one is freed (mallopt(3), M_MMAP_THRESHOLD), so that bodies of megabytes end up between small blocks that
stay, and gives each thread an arena of its own. Elsewhere than on glibc nothing is done.
"""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Smaller blocks are common, and mapping them would cost page faults at each.
_MAPPED_FROM_BYTES = 1024 * 1024
_ARENAS = 2  # the event loop's, and one for the threads that wait for the disk
# What a heap may hold free at its end. By its default of 128 KiB a message of 600 KB gave its pages back and took them
# anew each time: 290 page faults and a millisecond of a thread of ZeroMQ's a call. give_back_freed() returns it later.
_KEPT_BYTES = 8 * 1024 * 1024
TRIM_EVERY_S = 30.0


def _libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def set_up_allocator() -> None:
    """Before threads are started: arenas that exist stay."""
    if (libc := _libc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back_freed() -> None:
    """Returns whole free pages to the system. Takes about a millisecond for a heap of a hundred megabytes."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
