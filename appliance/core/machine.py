"""What this machine gives to a process: memory and descriptors, and how many of these may be connections.

Used by the gateway process at its start.
"""

import os
import resource

# For what is not a connection: the catalogue's files, an upload's, each worker's socket, pidfd, log and shared memory.
_OTHERS = 256
_OTHERS_SHARE = 0.25


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def raise_descriptor_limit() -> int:
    """Raises the soft limit on open files to the hard one, which is there for that; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def bound_umask() -> None:
    """What this process makes, its user can use and nobody else can write, whatever umask it was started with."""
    os.umask((os.umask(0o077) & 0o077) | 0o022)


def connections_allowed(limit: int) -> int:
    """How many callers' connections each of two fronts may have open where a process may have so many descriptors: the
    rest is for models and files.

    Where the limit is low, half of it at least is kept for the others.
    """
    return max(1, (limit - min(limit // 2, max(_OTHERS, int(limit * _OTHERS_SHARE)))) // 2)


def descriptor_limit() -> int:
    """How many this process may have now."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
