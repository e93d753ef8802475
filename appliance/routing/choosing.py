"""Which of the nodes that could answer a call is asked. Pure; runs in the gateway for every call that may leave it."""

import random
from collections.abc import Iterable, Sequence

import msgspec

from appliance.routing.cost import Standing, Terms
from federation.messages import ModelState

ALL_UP_TO = 8  # so many are priced; of more, the nearest and
SAMPLED = 3  # so many at random: what is known is a little old, and all would go to the one that looked best
TIE_SHARE = 0.05  # costs so near each other are alike
LOAD_GAIN = 2.0  # a load is worth its while where it at least halves what the call costs

_RANK: dict[Standing, int] = {"alive": 0, "suspect": 1, "broken": 2, "draining": 3}


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """A node that has the model, before it is priced. `warm`: or about to be."""

    node_id: str
    name: str
    rtt_s: float  # 0 for this node
    bytes_per_s: float
    standing: Standing
    warm: bool
    state: ModelState


def shortlist(seen: Iterable[Sighting], dice: random.Random) -> list[Sighting]:
    """Those to be priced. Of the best standing that there is: all that are warm up to ALL_UP_TO, else SAMPLED at random
    and the nearest; and the cold ones likewise."""
    best = len(_RANK)
    warm: list[Sighting] = []
    cold: list[Sighting] = []
    for sighting in seen:
        rank = _RANK[sighting.standing]
        if rank > best:
            continue
        if rank < best:
            best = rank
            warm, cold = [], []
        (warm if sighting.warm else cold).append(sighting)
    return _sampled(warm, dice) + _sampled(cold, dice)


def _sampled(seen: list[Sighting], dice: random.Random) -> list[Sighting]:
    if len(seen) <= ALL_UP_TO:
        return seen
    nearest = min(seen, key=_rtt_s)
    chosen = dice.sample(seen, SAMPLED)
    if nearest not in chosen:
        chosen.append(nearest)
    return chosen


def _rtt_s(sighting: Sighting) -> float:
    return sighting.rtt_s


def choose(priced: Sequence[Terms], dice: random.Random) -> Terms | None:
    """The cheapest; of those within TIE_SHARE of it the one with the least network, and at random where that is alike
    too. None of none.

    A node that would first have to load the model is taken only where no other has it, or where that at least halves
    the cost; of several the cheapest alone, so that two calls do not start two loads.
    """
    warm: Terms | None = None
    cold: Terms | None = None
    for terms in priced:
        if terms.would_load:
            if cold is None or _order(terms) < _order(cold):
                cold = terms
        elif warm is None or terms.total_s < warm.total_s:
            warm = terms
    if warm is None or (cold is not None and cold.total_s * LOAD_GAIN <= warm.total_s):
        return cold
    if len(priced) == 1:
        return warm
    limit_s = warm.total_s * (1 + TIE_SHARE)
    alike = [terms for terms in priced if terms.total_s <= limit_s and not terms.would_load]
    if len(alike) == 1:
        return warm
    least_s = min(terms.network_s for terms in alike) * (1 + TIE_SHARE)
    alike = [terms for terms in alike if terms.network_s <= least_s]
    return alike[0] if len(alike) == 1 else dice.choice(alike)


def _order(terms: Terms) -> tuple[float, str]:
    return terms.total_s, terms.candidate.node_id
