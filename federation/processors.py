"""How busy the box's processors are, all of them and whoever has them busy. In the gateway's event loop."""

import psutil

OFTEN_S = 1.0


class Processors:
    """busy_share() as often as one likes: it looks once in OFTEN_S."""

    def __init__(self) -> None:
        self._looked_s = -OFTEN_S
        self._idle_s = self._total_s = 0.0
        self._share = 0.0

    def busy_share(self, now_s: float) -> float:
        """From 0 to 1, between the last two looks; 0 before there were two."""
        if now_s - self._looked_s >= OFTEN_S:
            times = psutil.cpu_times()
            idle_s, total_s = times.idle + getattr(times, "iowait", 0.0), sum(times[:8])
            if self._total_s and total_s > self._total_s:
                self._share = 1.0 - (idle_s - self._idle_s) / (total_s - self._total_s)
            self._looked_s, self._idle_s, self._total_s = now_s, idle_s, total_s
        return self._share
