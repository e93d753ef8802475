"""Which core a process runs on, for itself and for those it started. Linux's /proc; runs in the benchmark's process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measured import LoadError


def children_of(pid: int) -> list[int]:
    """The processes that this one started and that are alive, of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def descendants_of(pid: int) -> list[int]:
    """Children, their children, and so on."""
    children = children_of(pid)
    return children + [further for child in children for further in descendants_of(child)]


def pin(pid: int, core: int) -> None:
    """Every thread of the process, and those that it starts later, to one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})


def two_cores() -> tuple[int, int]:
    """The first two cores that this process may use. Raises LoadError where it has only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise LoadError("this benchmark puts the worker and the front on different cores, and there is only one")
    return cores[0], cores[1]


@contextlib.contextmanager
def pinned_here(core: int) -> Iterator[None]:
    """The benchmark's own process, load generator included, on one core while the block runs."""
    before = os.sched_getaffinity(0)
    pin(os.getpid(), core)
    try:
        yield
    finally:
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), before)
