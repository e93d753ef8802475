"""How warm the box is and what it draws, where it tells. Any process; each call reads a few small files."""

import contextlib
from pathlib import Path

import psutil

_RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")  # the kernel's power capping framework; also on AMD
_last: tuple[float, int] | None = None


def temperature_c() -> float:
    """Of the warmest sensor; -1 where there is none."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        sensors = psutil.sensors_temperatures()
        return max((round(one.current, 1) for many in sensors.values() for one in many), default=-1.0)
    return -1.0


def power_w(now_s: float) -> float:
    """What the processors' package drew since this was last asked, on average; -1 where the kernel does not say or the
    node may not read it. `now_s` is on a monotonic clock."""
    global _last
    try:
        energy_uj = int(_RAPL.read_text())
    except (OSError, ValueError):
        return -1.0
    before, _last = _last, (now_s, energy_uj)
    if before is None or energy_uj < before[1] or now_s <= before[0]:  # the counter wraps around
        return -1.0
    return round((energy_uj - before[1]) / 1e6 / (now_s - before[0]), 1)
