"""Shared memory from the gateway to one worker, for tensors too large to pass through a socket's buffer.

The gateway owns it and decides where what lies: inputs it writes, and outputs that go on to memory of the caller's, for
which the worker is told the place. A span is taken when a call is sent and given back when it is answered. `Spans`
decides where, and is pure; `SharedRegion` holds the memory.
"""

import ctypes
import mmap
import os
from bisect import bisect_left, insort

from appliance.core.client_memory import MemorySpan
from appliance.core.errors import BadInputError
from appliance.core.requests import Part

_ALIGNMENT = 64  # a cache line, and what vector loads of any width want


class Spans:
    """First-fit allocation over `size_bytes`, with neighbours merged on release."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[tuple[int, int]] = [(0, size_bytes)]  # (start, length) by start, never adjacent

    def take(self, size_bytes: int) -> int | None:
        """Where `size_bytes` fit, or None when they do not."""
        size = _rounded(size_bytes)
        for index, (start, length) in enumerate(self._free):
            if length >= size:
                if length == size:
                    del self._free[index]
                else:
                    self._free[index] = (start + size, length - size)
                return start
        return None

    def give_back(self, start: int, size_bytes: int) -> None:
        length = _rounded(size_bytes)
        index = bisect_left(self._free, (start, 0))
        if index < len(self._free) and self._free[index][0] == start + length:
            length += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == start:
            index -= 1
            start, before = self._free.pop(index)
            length += before
        insort(self._free, (start, length))

    @property
    def is_whole(self) -> bool:
        """Whether nothing is taken."""
        return len(self._free) == 1 and self._free[0] == (0, self._size_bytes)

    def free_spans(self) -> list[tuple[int, int]]:
        return list(self._free)


def _rounded(size_bytes: int) -> int:
    return max(_ALIGNMENT, -(-size_bytes // _ALIGNMENT) * _ALIGNMENT)


class SharedRegion:
    """One worker's memory. Pages are taken from the system only as they are first written."""

    def __init__(self, size_bytes: int, fd: int | None = None, *, reserved_bytes: int = 0) -> None:
        """`fd`: memory of that size that was made already, and which this object closes. `reserved_bytes`: at its end,
        where nothing is put."""
        if fd is None:
            fd = os.memfd_create("ingle-tensors", os.MFD_CLOEXEC)
            os.ftruncate(fd, size_bytes)
        self.fd = fd
        self._map = mmap.mmap(self.fd, size_bytes)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._spans = Spans(size_bytes - reserved_bytes)
        self._touched_bytes = 0  # up to here pages were taken from the system

    def put(self, data: Part) -> int | None:
        """Copies `data` in and tells where, or None when it is full; the sender then falls back to the socket.

        Raises BadInputError where a caller's memory cannot be read.
        """
        start = self.take(len(data))
        if start is None:
            return None
        if isinstance(data, MemorySpan):
            try:
                with self.view(start, len(data)) as target:
                    data.read_into(target)
            except BadInputError:
                self._spans.give_back(start, len(data))
                raise
        else:
            self._map[start : start + len(data)] = data
        return start

    def take(self, size_bytes: int) -> int | None:
        """A place for the worker to write to, or None when it is full."""
        start = self._spans.take(size_bytes)
        if start is not None:
            self._touched_bytes = max(self._touched_bytes, start + size_bytes)
        return start

    def view(self, start: int, size_bytes: int) -> memoryview:
        """The memory there. Release it before close()."""
        with memoryview(self._map) as whole:
            return whole[start : start + size_bytes]

    def end(self, size_bytes: int) -> bytes:
        """The last bytes of it."""
        return self._map[-size_bytes:]

    def start_of(self, part: memoryview) -> int | None:
        """Where a part lies that is in this memory already; None for one that is not."""
        if part.readonly or not part:
            return None
        start = ctypes.addressof(ctypes.c_char.from_buffer(part)) - self._address
        return start if 0 <= start < len(self._map) else None

    def give_back(self, start: int, size_bytes: int) -> None:
        self._spans.give_back(start, size_bytes)

    def release_pages(self) -> None:
        """Returns the pages to the system where nothing is taken. They would count for nobody's worker and stay."""
        if self._touched_bytes and self._spans.is_whole:
            length = -(-self._touched_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_REMOVE, 0, min(length, len(self._map)))
            self._touched_bytes = 0

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)
