"""Whose turn it is in a device's worker: a word in the memory that it shares with the gateway, so that who hangs or
dies is told from those who wait, without a frame for each run.

Written by the worker, read by the gateway. A model's code could write it too, as it could all that its neighbours have
in that process: it is believed of a model only where that has something to do.
"""

import struct

_TURN = struct.Struct("<Q")
TURN_BYTES = _TURN.size


def write_turn(region: memoryview, tenant: int) -> None:
    """`region`: all that is shared. `tenant`: its number; 0: nobody's."""
    _TURN.pack_into(region, len(region) - TURN_BYTES, tenant)


def read_turn(region_end: bytes) -> int:
    """The number of the tenant that is loaded or run, 0 for none, from the region's last TURN_BYTES."""
    (tenant,) = _TURN.unpack(region_end)
    return int(tenant)
