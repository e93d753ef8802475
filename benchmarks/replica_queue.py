"""One model's queue and replicas, simulated call by call: first come, first served, bound to a replica late.

Replicas start, become ready and end at turns, as the scheduler's clock gives them. Knows no policy.
"""

from collections import deque
from heapq import heappop, heappush


class ReplicaQueue:
    def __init__(self, *, run_s: float, cold_start_s: float, ready: int) -> None:
        self.latencies_s: list[float] = []
        self.idle = ready
        self.starting: deque[float] = deque()  # when each is ready
        self.waiting: deque[float] = deque()  # when each call came
        self._running: list[float] = []  # a heap of when each run ends
        self._run_s = run_s
        self._cold_start_s = cold_start_s

    @property
    def ready(self) -> int:
        return self.idle + len(self._running)

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def arrive(self, now_s: float) -> None:
        """A call comes."""
        self.advance(now_s)
        self.waiting.append(now_s)
        self._serve(now_s)

    def advance(self, now_s: float) -> None:
        """Ends the runs that are over by now, each giving its replica to the next call."""
        running = self._running
        while running and running[0] <= now_s:
            ended_s = heappop(running)
            self.idle += 1
            self._serve(ended_s)

    def _serve(self, now_s: float) -> None:
        while self.idle and self.waiting:
            self.idle -= 1
            ends_s = now_s + self._run_s
            heappush(self._running, ends_s)
            self.latencies_s.append(ends_s - self.waiting.popleft())

    def scale(self, wanted: int, now_s: float) -> None:
        """A turn: what has started is ready; then replicas start, or idle ones end, to come to `wanted`."""
        self.advance(now_s)
        while self.starting and self.starting[0] <= now_s:
            self.starting.popleft()
            self.idle += 1
        lacking = wanted - self.ready - len(self.starting)
        self.starting.extend([now_s + self._cold_start_s] * lacking)
        self.idle -= max(0, min(self.idle, -lacking))
        self._serve(now_s)
