"""How long a model's runs take on this machine, as the gateway learns it from the answers. No clock of its own.

Runs in the gateway's event loop, at each answer. What it knows is what scaling, deadlines and routing reckon with.
"""

from appliance.core.frames import Answer

_WEIGHT = 0.2  # of the newest run in a running mean
_FADE = 1 / 16  # of the largest batch, with each run that is smaller


class RunTimes:
    """Running means over one version's runs, of all its workers."""

    def __init__(self, run_s: dict[int, float] | None = None) -> None:
        """`run_s`: what was measured before, seconds of one run by its rows rounded up to a power of two."""
        self.run_s: dict[int, float] = dict(run_s or {})
        self.call_s = self.run_s.get(1) or min(self.run_s.values(), default=0.0)
        self.formed_calls = 1.0  # how many calls shared a run lately: the largest, fading
        self.runs = 0
        self._changed = False  # the last run had other shapes than the one before it
        self._answer: Answer | None = None  # the first of the run whose answers are coming in
        self._calls = 0

    def answered(self, answer: Answer) -> None:
        """One answer has come. Those of one run come one after the other, the first of them with the run's facts."""
        if not answer.executions:
            self._calls += 1
            return
        if self._answer is not None:
            self._record(self._answer, self._calls)
        elif not self.call_s:
            self.call_s = _own_s(answer, 1)
        self._answer, self._calls = answer, 1

    def _record(self, first: Answer, calls: int) -> None:
        self.formed_calls = max(calls, self.formed_calls * (1 - _FADE))
        # On a GPU such a run takes ten times as long. One says nothing of the next; where each does so, they are usual.
        changed_before, self._changed = self._changed, first.changed
        if first.changed and not changed_before:
            return
        size = 1 << (max(1, first.batch_rows) - 1).bit_length()
        run_s = first.run_ns / 1e9
        before_s = self.run_s.get(size, run_s)
        self.run_s[size] = before_s + _WEIGHT * (run_s - before_s)
        call_s = _own_s(first, calls)
        # The first run of a worker warms caches and arenas: it must not stand for the others.
        self.call_s = call_s if self.runs < 1 else self.call_s + _WEIGHT * (call_s - self.call_s)
        self.runs += 1

    def wait_s(self, calls_ahead: int, replicas: int) -> float:
        """Seconds until so many calls have been answered by so many workers; 0 where nothing is known yet."""
        return calls_ahead * self.call_s / max(1, replicas)


def _own_s(first: Answer, calls: int) -> float:
    """What one of the calls of a run took of its worker's time."""
    return (first.decode_ns + first.run_ns) / calls / 1e9 + first.encode_ns / 1e9
