"""Where a model that is slow to answer should be loaded too, in the background. Pure; runs in the gateway.

A call never waits for what is said here: it goes where it is answered soonest (choosing.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from appliance.routing.call import Call
from appliance.routing.choosing import LOAD_GAIN
from appliance.routing.cost import ASSUMED_BYTES_PER_S, Terms, run_time_s
from federation.messages import Load, ModelState
from federation.peer import Peer

SLOW_S = 0.05
SLOW_RUNS = 3.0
CONSIDER_S = 0.25  # a model is looked at this often at most
GIVE_UP_S = 120.0  # a load of which nothing was heard for so long is not under way any more
LEAST_WORKER_BYTES = 4 * 1024 * 1024  # what a warm worker of the smallest model takes (benchmarks/density.py)
PASS_OVER_S = 60.0  # a place where a load has failed: the reason (no room, no memory, no link) is there for a while


class Place(NamedTuple):
    """A node where the model is not warm. `cost_s`: what the call would cost there, were it warm. `holds`: its disk has
    the version; otherwise it has to be fetched first."""

    node_id: str
    cost_s: float
    holds: bool


def is_slow(best: Terms) -> bool:
    """Whether a call that costs the best node so much is worth thinking about another."""
    return best.total_s > SLOW_S + SLOW_RUNS * best.candidate.run_s


def new_place(best: Terms, found: Sequence[Place]) -> Place | None:
    """The cheapest place that would at least halve what the call costs, one whose disk has the version before others;
    the same for all who ask, so that several nodes in like positions do not each load another."""
    if not is_slow(best):
        return None
    worth_it = [place for place in found if place.cost_s * LOAD_GAIN <= best.total_s]
    return min(worth_it, key=lambda place: (not place.holds, place.cost_s, place.node_id), default=None)


def places(call: Call, best: Terms, peers: Mapping[str, Peer], node_id: str, own: Load) -> list[Place]:
    """The nodes that are up, have memory for the model and do not have it warm. `node_id`, `own`: this node, and how it
    is altogether. Where a run there was never measured it takes as long as at the best node. None for what a server
    has that is no node: it cannot be copied from there."""
    key = call.key
    holders = [peer for peer in peers.values() if key in peer.holdings]
    if any(peer.outside for peer in holders):
        return []
    need_bytes = max((peer.holdings[key].size_bytes for peer in holders), default=0) + LEAST_WORKER_BYTES
    found = []
    if (call.local is None or not _is_warm_or_refused(call.local)) and own.memory_free_bytes >= need_bytes:
        found.append(Place(node_id, own.backlog_s + _run_s(call.local, call, best), call.local is not None))
    for peer in peers.values():
        state = peer.models.get(key)
        if peer.outside or peer.standing != "alive" or peer.load.memory_free_bytes < need_bytes:
            continue
        if state is None or not _is_warm_or_refused(state):
            way_s = peer.rtt_s + call.size_bytes / (peer.bytes_per_s or ASSUMED_BYTES_PER_S)
            cost_s = way_s + peer.load.backlog_s + _run_s(state, call, best)
            found.append(Place(peer.node_id, cost_s, key in peer.holdings))
    return found


def _is_warm_or_refused(state: ModelState) -> bool:
    return state.replicas > 0 or bool(state.refused)


def _run_s(state: ModelState | None, call: Call, best: Terms) -> float:
    return (run_time_s(state.run_s, call.rows) if state is not None else 0.0) or best.candidate.run_s


class LoadsUnderWay:
    """The loads that this node has begun, here or elsewhere: one for a model at a time, so that a model that is slow
    while it loads is not loaded everywhere."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[str, float]] = {}  # by model: where, and when
        self._failed: dict[tuple[str, str], float] = {}  # by model and node: when

    def where(self, key: str, now_s: float) -> str:
        """The node that loads the model for us; empty for none."""
        node_id, begun_at_s = self._begun.get(key, ("", 0.0))
        return node_id if now_s - begun_at_s < GIVE_UP_S else ""

    def begins(self, key: str, node_id: str, now_s: float) -> None:
        self._begun[key] = (node_id, now_s)

    def ended(self, key: str, node_id: str) -> None:
        """It is loaded, or is not going to be."""
        if self._begun.get(key, ("", 0.0))[0] == node_id:
            del self._begun[key]

    def failed(self, key: str, node_id: str, now_s: float) -> None:
        """It is not going to be: another place may be tried at once, and this one again later."""
        self.ended(key, node_id)
        self._failed = {place: at_s for place, at_s in self._failed.items() if now_s - at_s < PASS_OVER_S}
        self._failed[key, node_id] = now_s

    def untried(self, key: str, found: Iterable[Place], now_s: float) -> list[Place]:
        """Those of these places where no load of the model has failed lately."""
        never_s = now_s - PASS_OVER_S
        return [place for place in found if self._failed.get((key, place.node_id), never_s) <= never_s]
