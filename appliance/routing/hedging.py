"""When a call that is late is asked of a second node too, and how many may be. Pure; runs in the gateway.

A hedge is sent after the 95th centile of what the model's calls take, so that one call in twenty asks for one, and is
paid from a budget, so that a mesh that is slow as a whole is not given more work.
"""

import math

CENTILE = 0.95
KNOWN_CALLS = 20  # before so many there is no centile
LEAST_S = 0.002  # no hedge before: what would be gained is not worth a second call
FIRST_S = 0.1  # and none before this while no centile is known
BURST = 50  # hedges that may be saved up: a node that freezes has many calls at once
_STEP = 0.05


class Centile:
    """A running estimate of the 95th centile, in two numbers: stochastic approximation of the quantile (Robbins and
    Monro 1951) in the logarithm. Each call above the estimate lifts it 19 times as far as one below lowers it."""

    __slots__ = ("_log", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self._log = 0.0

    def learn(self, seconds: float) -> None:
        log = math.log(max(seconds, 1e-6))
        self.calls += 1
        if self.calls == 1:
            self._log = log
            return
        step = max(_STEP, 1.0 / self.calls)  # the first calls move it far
        self._log += step * CENTILE if log > self._log else -step * (1 - CENTILE)

    @property
    def seconds(self) -> float | None:
        """None until KNOWN_CALLS were seen."""
        return math.exp(self._log) if self.calls >= KNOWN_CALLS else None


def hedge_after_s(centile_s: float | None, predicted_s: float) -> float:
    """How long to wait for an answer before a second node is asked. A call that was expected to take longer than most
    is not late until it has."""
    if centile_s is None:
        return max(FIRST_S, 3 * predicted_s)
    return max(LEAST_S, centile_s, predicted_s)


class Budget:
    """A token bucket: each call earns a share of a hedge."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = float(BURST) if share else 0.0

    def earn(self) -> None:
        """A call was begun."""
        if self._saved < BURST:
            self._saved += self._share

    def spend(self) -> bool:
        """Takes one hedge, where there is one."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
