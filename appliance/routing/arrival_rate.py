"""How many calls a second come for one model, from counts. Pure; runs in the gateway."""

import math

STEADY_S = 30.0  # an average over about this time is steady enough to count replicas by
RUSH_S = 3.0  # and one over this time tells a rush early,
RUSH_DEVIATIONS = 2.0  # as far as it is above what chance alone would show
YOUNG_S = 1.0  # less than this is too short a time to tell a rate from
LEAST_PER_S = 1e-3  # what is below is none: else a model that was called once would never be without arrivals


class ArrivalRate:
    """Two averages that forget exponentially. Fed with counts, so that a call costs its counter an addition."""

    __slots__ = ("_counted_s", "_recent_per_s", "_since_s", "_steady_per_s")

    def __init__(self, now_s: float) -> None:
        """Nothing is known of the time before: the averages are over the time since, as long as that is short."""
        self._since_s = self._counted_s = now_s
        self._steady_per_s = 0.0
        self._recent_per_s = 0.0

    def count(self, calls: int, now_s: float) -> None:
        """So many calls came since the last count, which may have been at this very moment."""
        passed_s = max(0.0, now_s - self._counted_s)
        self._counted_s = max(self._counted_s, now_s)
        self._steady_per_s = _averaged(self._steady_per_s, calls, passed_s, STEADY_S)
        self._recent_per_s = _averaged(self._recent_per_s, calls, passed_s, RUSH_S)

    @property
    def per_s(self) -> float:
        """The steady average, or the recent one's lower bound where that is above it.

        The deviation is of a Poisson process under an exponential average of time T: the root of rate / 2T.
        """
        known = -math.expm1(-max(YOUNG_S, self._counted_s - self._since_s) / STEADY_S)
        chance = RUSH_DEVIATIONS * math.sqrt(self._recent_per_s / (2 * RUSH_S))
        per_s = max(self._steady_per_s / known, self._recent_per_s - chance)
        return per_s if per_s >= LEAST_PER_S else 0.0


def _averaged(before_per_s: float, calls: int, passed_s: float, over_s: float) -> float:
    """The exponential average of a rate that was `calls / passed_s` for that time; its limit where that is none."""
    forgotten = -math.expm1(-passed_s / over_s)
    return before_per_s * (1 - forgotten) + calls * (forgotten / passed_s if passed_s else 1 / over_s)
