"""How far a node's calls take longer, or less long, than was predicted of them. Pure; runs in the gateway.

One for each model and node. What the cost leaves out (other models' work there, batches, a slow network) is in it.
"""

import math

WEIGHT = 0.1  # of the newest call
LEAST, MOST = 0.5, 10.0
# A node that is thought slow is not called, so nothing would teach otherwise: what was learned fades.
HALF_LIFE_S = 30.0
_LOG_LEAST, _LOG_MOST = math.log(LEAST), math.log(MOST)
_SURPRISE = math.log(100.0)  # one call counts no more than this
_LEAST_S = 1e-6  # below this no prediction was made


class Correction:
    """An exponential average of the logarithm of actual over predicted seconds."""

    __slots__ = ("_learned_at_s", "_log")

    def __init__(self) -> None:
        self._log = 0.0
        self._learned_at_s = 0.0

    def factor(self, now_s: float) -> float:
        """What a prediction is to be multiplied by: LEAST to MOST."""
        if not self._log:
            return 1.0
        return math.exp(self._log * 0.5 ** ((now_s - self._learned_at_s) / HALF_LIFE_S))

    def learn(self, actual_s: float, predicted_s: float, now_s: float) -> None:
        """A call was answered; `predicted_s` is without the correction."""
        if predicted_s < _LEAST_S:
            return
        surprise = max(-_SURPRISE, min(_SURPRISE, math.log(max(actual_s, _LEAST_S) / predicted_s)))
        faded = self._log * 0.5 ** ((now_s - self._learned_at_s) / HALF_LIFE_S)
        self._log = max(_LOG_LEAST, min(_LOG_MOST, faded + WEIGHT * (surprise - faded)))
        self._learned_at_s = now_s

    def learn_at_least(self, actual_s: float, predicted_s: float, now_s: float) -> None:
        """A call was given up after so long: it counts where it was late by then."""
        if actual_s > predicted_s * self.factor(now_s):
            self.learn(actual_s, predicted_s, now_s)
