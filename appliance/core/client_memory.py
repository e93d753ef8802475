"""Memory that a caller on this box shares with the node: an open file, and places in it.

Run in the gateway alone. It is read and written by system calls, never mapped: a file that its owner cuts short under
a mapping ends the process with SIGBUS, where a read merely comes back short.
"""

import os
from collections.abc import Callable

from appliance.core.errors import BadInputError

Writable = memoryview | bytearray
Readable = bytes | bytearray | memoryview


class OpenFile:
    """A file descriptor that is closed once nobody holds this object: neither who opened it nor a call under way."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class MemorySpan:
    """`size_bytes` bytes at `offset` of a file. `region` is what its caller calls it, for sentences."""

    __slots__ = ("_file", "_offset", "_size_bytes", "region")

    def __init__(self, file: OpenFile, region: str, offset: int, size_bytes: int) -> None:
        self._file = file
        self._offset = offset
        self._size_bytes = size_bytes
        self.region = region

    def __len__(self) -> int:
        return self._size_bytes

    def read_into(self, target: Writable) -> None:
        """Fills `target`, which is as long as the span. Raises BadInputError where the file ends before that."""
        with memoryview(target) as view:
            done = 0
            while done < self._size_bytes:
                with view[done:] as rest:
                    count = self._attempt(os.preadv, [rest], self._offset + done)
                if not count:
                    raise BadInputError(
                        f"the shared memory region '{self.region}' ends before byte {self._offset + self._size_bytes}: "
                        "it was cut short after it was registered"
                    )
                done += count

    def read(self) -> bytearray:
        """What lies there. Raises BadInputError where the file ends before that."""
        content = bytearray(self._size_bytes)
        self.read_into(content)
        return content

    def write(self, content: Readable) -> None:
        """Puts `content` at the span's beginning; it must not be longer. Raises BadInputError where the file has been
        cut short, since writing would make it grow again, where it is not the node's to write, and where the box has
        no memory left."""
        assert len(content) <= self._size_bytes
        if os.fstat(self._file.fd).st_size < self._offset + len(content):
            raise BadInputError(
                f"the shared memory region '{self.region}' ends before byte {self._offset + len(content)}: "
                "it was cut short after it was registered"
            )
        with memoryview(content) as view:
            done = 0
            while done < len(view):
                with view[done:] as rest:
                    done += self._attempt(os.pwritev, [rest], self._offset + done)

    def _attempt(self, operation: Callable[..., int], buffers: list[memoryview], offset: int) -> int:
        try:
            return operation(self._file.fd, buffers, offset)
        except OSError as error:
            raise BadInputError(f"the shared memory region '{self.region}' cannot be used: {error.strerror}") from None
