"""Where a stream's bytes are read into, and cut into pieces: of given sizes, or records that begin with theirs. Pure.

What is read lies there until it is taken, and is given without a copy. The buffer is small while little comes, since a
node has streams with many peers.
"""

import struct

from federation.sealing import BrokenStreamError

SIZE = struct.Struct(">I")
_AT_REST_BYTES = 16 * 1024


class RecordBuffer:
    """room() is where the next bytes go, came() says how many did. The pieces that are given are views, and good until
    the next call."""

    __slots__ = ("_at", "_have", "_large_bytes", "_view")

    def __init__(self, large_bytes: int) -> None:
        """`large_bytes`: how much is read at once where much comes."""
        self._large_bytes = large_bytes
        self._view = memoryview(bytearray(_AT_REST_BYTES))
        self._at = 0  # up to here it was taken
        self._have = 0  # up to here there is something

    def room(self) -> memoryview:
        """Never empty."""
        return self._view[self._have :]

    def came(self, size_bytes: int) -> None:
        self._have += size_bytes

    def piece(self, size_bytes: int) -> memoryview | None:
        """The next so many bytes; None where they have not all come."""
        end = self._at + size_bytes
        if end > self._have:
            self._make_room(size_bytes)
            return None
        piece = self._view[self._at : end]
        self._at = end
        return piece

    def record(self, max_bytes: int) -> memoryview | None:
        """The next record, without its size; None where it has not all come. Raises BrokenStreamError where it is
        larger than `max_bytes`."""
        start = self._at + SIZE.size
        if start > self._have:
            self._make_room(SIZE.size)
            return None
        (size,) = SIZE.unpack_from(self._view, self._at)
        if size > max_bytes:
            raise BrokenStreamError(f"a record has {size} bytes: at most {max_bytes} were expected")
        end = start + size
        if end > self._have:
            self._make_room(SIZE.size + size)
            return None
        self._at = end
        return self._view[start:end]

    def _make_room(self, due_bytes: int) -> None:
        """So that so many bytes from where it was taken up to have their place."""
        left = self._view[self._at : self._have]
        if due_bytes > len(self._view):
            larger = memoryview(bytearray(max(due_bytes, self._large_bytes)))
            larger[: len(left)] = left
            self._view = larger
        elif self._at + due_bytes > len(self._view) or not left:
            self._view[: len(left)] = left
        else:
            return
        self._at, self._have = 0, len(left)

    @property
    def is_large(self) -> bool:
        return len(self._view) > _AT_REST_BYTES

    def rest(self) -> bool:
        """Lets go of a large buffer; whether nothing waited in it, and so it could."""
        if self._have > self._at:
            return False
        self._view = memoryview(bytearray(_AT_REST_BYTES))
        self._at = self._have = 0
        return True
