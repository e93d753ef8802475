"""Protocol Buffers' wire format, read where it lies: a file of many gigabytes is walked without being loaded.

Pure; runs wherever a model's file is looked at. Knows nothing of ONNX. Why not the protobuf package: it copies all that
it does not know, weights included, and refuses more than 2 GiB.
Source: protobuf.dev, "Encoding".
"""

import mmap
import re
from collections.abc import Iterator
from functools import cache

Source = bytes | mmap.mmap

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FIELD = 2**29 - 1


class DamagedError(ValueError):
    """These bytes are no message. `cut`: because something should go on behind their end."""

    def __init__(self, at: int, *, cut: bool) -> None:
        super().__init__(f"cut short behind byte {at}" if cut else f"damaged at byte {at}")
        self.cut = cut


def fields(source: Source, start: int, end: int, *, whole_runs: bool = False) -> Iterator[tuple[int, int, int]]:
    """The fields of the message at `start` to `end`: (number, value, -1) for a varint, (number, start, end) for bytes,
    texts and messages. Numbers of fixed width are passed over, and, without `whole_runs`, a run of varints with one tag
    may yield only its first two. Raises DamagedError."""
    at = start
    previous_tag = -1
    while at < end:
        tag, at = varint(source, at, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD:
            raise DamagedError(at, cut=False)
        if kind == _BYTES:
            size, at = varint(source, at, end)
            if size > end - at:
                raise DamagedError(end, cut=True)
            yield number, at, at + size
            at += size
        elif kind == _VARINT:
            value, at = varint(source, at, end)
            yield number, value, -1
            if tag == previous_tag and not whole_runs:
                at = _skip_run(source, tag, at, end)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
            if at > end:
                raise DamagedError(end, cut=True)
            if tag == previous_tag:
                at = _skip_run(source, tag, at, end)
        else:
            raise DamagedError(at, cut=False)
        previous_tag = tag


def packed_varints(source: Source, at: int, end: int) -> Iterator[int]:
    """The numbers of a packed field. Raises DamagedError."""
    while at < end:
        value, at = varint(source, at, end)
        yield value


def varint(source: Source, at: int, end: int) -> tuple[int, int]:
    """The unsigned number at `at`, and where it ends. Raises DamagedError."""
    value = shift = 0
    while at < end:
        byte = source[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise DamagedError(at, cut=False)
    raise DamagedError(end, cut=True)


def _skip_run(source: Source, tag: int, at: int, end: int) -> int:
    # Tree models hold millions of numbers, each with its own tag: one regular expression passes over them all.
    pattern = _run_pattern(tag)
    match = pattern.match(source, at, end) if pattern else None
    return match.end() if match else at


@cache
def _run_pattern(tag: int) -> re.Pattern[bytes] | None:
    if tag > 0x7F:  # a tag of several bytes: rare, and the cache stays small
        return None
    value = {_VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]", _FIXED32: rb".{4}", _FIXED64: rb".{8}"}[tag & 7]
    # Possessive, so that a long run keeps no memory of where it could turn back.
    return re.compile(b"(?:" + re.escape(bytes((tag,))) + value + b")++", re.DOTALL)
