"""What the kernel has measured of one artifact on one kind of runtime: what keeping it warm costs and is worth.

Measured by the gateway, kept by the catalogue, read by the policies. A struct and no behaviour.
"""

from typing import NamedTuple

import msgspec


class ProfileKey(NamedTuple):
    """`digest` is an artifact's; `runtime` is whatever makes two measurements comparable (device, provider, threads),
    in words of the caller's choice."""

    digest: str
    runtime: str


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Zero, or an empty dict, is what has not been measured."""

    uss_loaded_bytes: int = 0  # unique set size once the session is made
    uss_used_bytes: int = 0  # unique set size after runs
    load_s: float = 0.0  # the session alone
    cold_start_s: float = 0.0  # from the fork being asked for to the worker being ready
    cpu_s: float = 0.0  # processor time of all calls so far
    calls: int = 0
    io_read_bytes: int = 0
    run_s: dict[int, float] = {}  # rows rounded up to a power of two: exponentially weighted mean seconds of one run
    gpu_bytes: int = 0
    measured_s: float = 0.0  # Unix time
