"""What a model costs on this machine: read off its workers' processes, kept with its artifact.

`read_sample()` waits for the kernel, in a thread of the gateway's; `Measures` lives in its event loop. A worker is
looked at once it is loaded and after it has been used, not while it idles: nothing of it changes then.
"""

import time
from typing import NamedTuple

import psutil

from appliance.core.models import ModelVersion
from appliance.core.profile import Profile
from appliance.workers.run_times import RunTimes

# What a worker of a model that was never measured is taken to need: its file, some of it twice, and a session's own.
_GUESS_FACTOR = 1.3
_GUESS_BYTES = 8 * 1024 * 1024
_WEIGHT = 0.3  # of the newest start in a running mean


class Sample(NamedTuple):
    """One look at one process. `uss_bytes`: what would come free if it ended. `io_read_bytes`: through system calls."""

    uss_bytes: int
    cpu_s: float
    io_read_bytes: int


def read_sample(pid: int) -> Sample | None:
    """Looks at a process; None where it has ended, or must not be looked at. Takes about a millisecond a gigabyte."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        # Ours alone: /proc/PID/io of a process in another user namespace may be closed to an ordinary user.
        try:
            read_bytes = int(process.io_counters().read_chars)
        except psutil.AccessDenied:
            read_bytes = 0
        return Sample(int(process.memory_full_info().uss), times.user + times.system, read_bytes)
    except (psutil.Error, OSError):
        return None


class Measures:
    """The running measurements of one version, from its last profile on."""

    def __init__(self, model: ModelVersion, profile: Profile | None) -> None:
        self._guess_bytes = int(model.size_bytes * _GUESS_FACTOR) + _GUESS_BYTES
        self._before = profile or Profile()
        self._changed = False
        self.run_times = RunTimes(self._before.run_s)
        self.measured = self._before.uss_loaded_bytes > 0
        self.uss_loaded_bytes = self._before.uss_loaded_bytes
        self.uss_used_bytes = self._before.uss_used_bytes
        self.load_s = self._before.load_s
        self.cold_start_s = self._before.cold_start_s
        self.cpu_s = self._before.cpu_s
        self.calls = self._before.calls
        self.io_read_bytes = self._before.io_read_bytes

    @property
    def memory_bytes(self) -> int:
        """What one worker is reckoned to need: measured, or guessed from the file's size."""
        return max(self.uss_loaded_bytes, self.uss_used_bytes) or self._guess_bytes

    def started(self, *, load_s: float, cold_start_s: float) -> None:
        """A worker was loaded: `load_s` for the session alone, `cold_start_s` from the wish for it."""
        self.load_s = _mean(self.load_s, load_s)
        self.cold_start_s = _mean(self.cold_start_s, cold_start_s)
        self._changed = True

    def looked_at(self, now: Sample, before: Sample | None, calls: int) -> None:
        """A worker was looked at (for the first time where there is no `before`), `calls` answers later than then."""
        if before is None:
            self.uss_loaded_bytes = now.uss_bytes
            self.measured = True
        if calls:
            # What a model grows to is what it needs, but one large call must not count for ever.
            self.uss_used_bytes = max(now.uss_bytes, int(_mean(self.uss_used_bytes, now.uss_bytes)))
        self.cpu_s += now.cpu_s - (before.cpu_s if before else 0.0)
        self.io_read_bytes += now.io_read_bytes - (before.io_read_bytes if before else 0)
        self.calls += calls
        self._changed = True

    def profile(self) -> Profile:
        """All of it, to be kept and shown."""
        return Profile(
            uss_loaded_bytes=self.uss_loaded_bytes,
            uss_used_bytes=self.uss_used_bytes,
            load_s=self.load_s,
            cold_start_s=self.cold_start_s,
            cpu_s=self.cpu_s,
            calls=self.calls,
            io_read_bytes=self.io_read_bytes,
            run_s=dict(self.run_times.run_s),
            measured_s=time.time(),
        )

    def take_changed(self) -> Profile | None:
        """The profile, if it has changed since this was last asked."""
        changed, self._changed = self._changed, False
        return self.profile() if changed else None


def _mean(before: float, now: float) -> float:
    return now if not before else before + _WEIGHT * (now - before)
