"""Whether a model runs on the GPU or the CPU, and why: a verdict from what is known of both.

Pure, tested by a table; gpu.py acts on it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from appliance.workers.vram_ledger import VramLedger, estimate_bytes

# A model that was loading or running in so many ends of the device's worker, with no answer between, has had its turns:
# in a worker of its own on the CPU it can end nobody but itself.
MOST_ENDS = 2
# For so long a model that did not fit stays where it is: memory that others hold comes free.
TOO_LARGE_S = 60.0


class Banned(NamedTuple):
    """A model that the device does not take until `until_s` (on time.monotonic()'s clock)."""

    reason: str
    until_s: float = float("inf")


class Placed(NamedTuple):
    """On the device once those in `evict` have gone, or on the CPU for a reason, as half a sentence."""

    on_device: bool
    evict: tuple[int, ...] = ()
    reason: str = ""


def place(
    *,
    device_fault: str,
    banned: Banned | None,
    size_bytes: int,
    measured_bytes: int,
    ledger: VramLedger,
    worth: Mapping[int, float],
    now_s: float,
) -> Placed:
    """`device_fault` says why there is no device to be had; `worth` has the tenants that are idle, with their worth."""
    if device_fault:
        return Placed(False, reason=device_fault)
    if banned is not None and now_s < banned.until_s:
        return Placed(False, reason=banned.reason)
    room = ledger.room_for(estimate_bytes(size_bytes, measured_bytes), worth)
    return Placed(room.fits, room.evict, room.reason)
