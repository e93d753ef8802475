"""Where a model that is slow to answer should be loaded too, in the background. Pure; runs in the gateway.

A call never waits for what is said here: it goes where it is answered soonest (choosing.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.routing.choosing import LOAD_GAIN
from appliance.routing.cost import Terms

SLOW_S = 0.05
SLOW_RUNS = 3.0
CONSIDER_S = 0.25  # a model is looked at this often at most
GIVE_UP_S = 120.0  # a load of which nothing was heard for so long is not under way any more


class Place(NamedTuple):
    """A node where the model is not warm. `cost_s`: what the call would cost there, were it warm. `holds`: its disk has
    the version; otherwise it has to be fetched first."""

    node_id: str
    cost_s: float
    holds: bool


def is_slow(best: Terms) -> bool:
    """Whether a call that costs the best node so much is worth thinking about another."""
    return best.total_s > SLOW_S + SLOW_RUNS * best.run_s


def new_place(best: Terms, places: Sequence[Place]) -> Place | None:
    """The cheapest place that would at least halve what the call costs, one whose disk has the version before others;
    the same for all who ask, so that several nodes in like positions do not each load another."""
    if not is_slow(best):
        return None
    worth_it = [place for place in places if place.cost_s * LOAD_GAIN <= best.total_s]
    return min(worth_it, key=lambda place: (not place.holds, place.cost_s, place.node_id), default=None)


class LoadsUnderWay:
    """One load for each model and node at a time."""

    def __init__(self) -> None:
        self._begun_at_s: dict[tuple[str, str], float] = {}

    def begin(self, key: str, node_id: str, now_s: float) -> bool:
        """Whether it may begin; if so it is under way."""
        begun_at_s = self._begun_at_s.get((key, node_id))
        if begun_at_s is not None and now_s - begun_at_s < GIVE_UP_S:
            return False
        self._begun_at_s[key, node_id] = now_s
        return True

    def any_of(self, key: str) -> bool:
        """Whether some node loads this model."""
        return any(model == key for model, _ in self._begun_at_s)

    def ended(self, key: str, node_id: str) -> None:
        """It is loaded, or is not going to be."""
        self._begun_at_s.pop((key, node_id), None)
