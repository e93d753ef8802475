"""Sizes in memory and on disk as people write them: in settings, in manifests and on the command line."""

import math
import re

from appliance.core.errors import BadInputError

LEAST_BYTES = 2**20  # of memory or disk with which anything here could do something
_POWERS = {"K": 10, "M": 20, "G": 30, "T": 40}
_BYTES: dict[str, int] = (
    {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    | {letter: 2**power for letter, power in _POWERS.items()}  # as Docker and systemd mean them
    | {f"{letter}IB": 2**power for letter, power in _POWERS.items()}
)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([A-Z]*)", re.ASCII)


def parse_size(value: object, *, least_bytes: int = 0) -> int:
    """`4GiB` or `4G`, `512 MB` or a number of bytes, as bytes. Raises BadInputError, also for what is less than
    `least_bytes` and not 0: somebody forgot the unit."""
    size_bytes = _bytes_of(value)
    if 0 < size_bytes < least_bytes:
        read = f"{size_bytes} byte{'s' if size_bytes > 1 else ''}"
        least = f"{least_bytes >> 20} MiB" if least_bytes >= 2**20 else f"{least_bytes} bytes"
        raise BadInputError(
            f"'{str(value)[:40]}' was read as {read}, which cannot be meant: expected {least} or more, with its unit, "
            "such as 4G"
        )
    return size_bytes


def _bytes_of(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(str(value).strip().upper())
    if match is None or match[2] not in _BYTES:
        raise BadInputError(
            f"'{str(value)[:40]}' is no size: expected bytes, or a number with KiB, MiB, GiB, TiB (or K, M, G, T), kB, "
            "MB, GB or TB"
        )
    return math.ceil(float(match[1]) * _BYTES[match[2]])
