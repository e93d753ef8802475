"""How far a peer is and how wide the way to it: the least of the last round trips of probes, and the most that one of
the last large messages moved in what it took beyond that. Pure; knows when probes left and came back, and not what
sends them."""

from collections import deque

ROUND_TRIPS = 8
WIDTHS = 4
# A body that tells the width of the way: 5 ms at 100 Mbit/s. Smaller ones tell of the round trip and the kernel.
PAD_BYTES = 64 * 1024
LEAST_BYTES = 32 * 1024
MAX_OUTSTANDING = 16
_LEAST_S = 20e-6


class Estimates:
    """Of the way to one peer. `rtt_s` and `bytes_per_s` are 0 until they are known."""

    def __init__(self) -> None:
        self.rtt_s = 0.0
        self.bytes_per_s = 0.0
        self._number = 0
        self._sent: dict[int, tuple[float, int]] = {}  # by a probe's number: when it left, with how large a body
        self._widths: deque[float] = deque(maxlen=WIDTHS)
        self._round_trips: deque[float] = deque(maxlen=ROUND_TRIPS)

    def probe(self, now_s: float, pad_bytes: int = 0) -> int:
        """The number of a probe that leaves now. Of those that do not come back the oldest are forgotten."""
        self._number += 1
        self._sent[self._number] = (now_s, pad_bytes)
        if len(self._sent) > MAX_OUTSTANDING:
            del self._sent[next(iter(self._sent))]
        return self._number

    def came_back(self, number: int, now_s: float) -> None:
        """A number that is not awaited tells nothing."""
        sent_s, pad_bytes = self._sent.pop(number, (0.0, -1))
        took_s = max(_LEAST_S, now_s - sent_s)
        if pad_bytes == 0:
            self._round_trips.append(took_s)
            self.rtt_s = min(self._round_trips)
        elif pad_bytes > 0:
            self.moved(pad_bytes, took_s)

    def moved(self, size_bytes: int, took_s: float) -> None:
        """So much went there or came back within `took_s`, in which one round trip is contained and nothing else."""
        if size_bytes < LEAST_BYTES or not self.rtt_s:
            return
        self._widths.append(size_bytes / max(_LEAST_S, took_s - self.rtt_s))
        self.bytes_per_s = max(self._widths)

    def forget_outstanding(self) -> None:
        """The link ended: what is out does not come back."""
        self._sent.clear()
