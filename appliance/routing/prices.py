"""What a call would cost at each node that could answer it now. Runs in the gateway for every call that may leave it.

Reads what peers say of themselves (federation/peer.py) and what was learned of them here. No I/O.
"""

import random
from collections.abc import Collection, Mapping

from appliance.routing.call import Call
from appliance.routing.choosing import Sighting, shortlist
from appliance.routing.cost import (
    ASSUMED_BYTES_PER_S,
    ASSUMED_COLD_START_S,
    ASSUMED_RTT_S,
    ASSUMED_RUN_S,
    Candidate,
    Standing,
    Terms,
    price,
    run_time_s,
)
from appliance.routing.learned import LearnedModel
from federation.messages import ModelState
from federation.peer import AWAITED_S, Peer, PeerStanding

_STANDING: dict[PeerStanding, Standing] = {"alive": "alive", "suspect": "suspect", "draining": "draining"}
_COLD = ModelState()


class Prices:
    def __init__(
        self, *, node_id: str, name: str, tags: Collection[str], peers: Mapping[str, Peer], dice: random.Random
    ) -> None:
        """`peers`, by node id, is read at each call and never changed."""
        self._node_id = node_id
        self._name = name
        self._tags = tags
        self._peers = peers
        self._dice = dice

    def of(self, call: Call, model: LearnedModel, excluded: Collection[str], now_s: float) -> list[Terms]:
        """The price at each node that is worth looking at, in no order; none where none may run the call now."""
        seen = shortlist(self._seen(call, model, excluded, now_s), self._dice)
        runs_s = [run_time_s(sighting.state.run_s, call.rows) for sighting in seen]
        unknown_s = max(runs_s, default=0.0) or ASSUMED_RUN_S  # who was never measured is taken for the slowest
        size_bytes = call.size_bytes + int(model.answer_bytes)
        return [
            price(self._candidate(sighting, model, run_s or unknown_s, now_s), size_bytes)
            for sighting, run_s in zip(seen, runs_s, strict=True)
        ]

    def _seen(self, call: Call, model: LearnedModel, excluded: Collection[str], now_s: float) -> list[Sighting]:
        """Every node that may run the call."""
        seen: list[Sighting] = []
        key, pin, bound_to, local = call.key, call.pin, call.bound_to, call.local
        if local is not None and not local.refused and self._may_be_here(call, excluded):
            standing: Standing = "alive" if model.passes(self._node_id, now_s) else "broken"
            warm = local.replicas > 0 or model.loads_at(self._node_id, now_s)
            seen.append(Sighting(self._node_id, self._name, 0.0, 0.0, standing, warm, local))
        for node_id, peer in self._peers.items():
            state = peer.models.get(key)
            if state is None:
                if key not in peer.holdings:
                    continue
                state = _COLD
            its_standing = _STANDING.get(peer.standing)
            if its_standing is None or state.refused or node_id in excluded or (bound_to and bound_to != node_id):
                continue
            if pin is not None and not pin.admits(node_id=node_id, name=peer.name, tags=peer.hello.tags, local=False):
                continue
            if its_standing == "alive" and node_id in model.troubled and not model.passes(node_id, now_s):
                its_standing = "broken"
            seen.append(
                Sighting(
                    node_id,
                    peer.name,
                    peer.rtt_s or ASSUMED_RTT_S,
                    peer.bytes_per_s or ASSUMED_BYTES_PER_S,
                    its_standing,
                    state.replicas > 0 or model.loads_at(node_id, now_s),
                    state,
                )
            )
        return seen

    def may_return(self, call: Call, now_s: float) -> bool:
        """Whether a node may run the call that was lost a moment ago, and may be back soon."""
        return any(
            peer.standing == "dead"
            and now_s - peer.since_s <= AWAITED_S
            and call.key in peer.holdings
            and call.bound_to in ("", node_id)
            and (
                call.pin is None or call.pin.admits(node_id=node_id, name=peer.name, tags=peer.hello.tags, local=False)
            )
            for node_id, peer in self._peers.items()
        )

    def _may_be_here(self, call: Call, excluded: Collection[str]) -> bool:
        if self._node_id in excluded or call.bound_to not in ("", self._node_id):
            return False
        return call.pin is None or call.pin.admits(node_id=self._node_id, name=self._name, tags=self._tags, local=True)

    def _candidate(self, sighting: Sighting, model: LearnedModel, run_s: float, now_s: float) -> Candidate:
        node_id, state = sighting.node_id, sighting.state
        site = model.sites.get(node_id) or model.site(node_id)
        site.told(state, now_s, sighting.rtt_s)
        cold_start_s, loading = 0.0, False
        if not state.replicas:
            cold_start_s, loading = site.load_left_s(state.cold_start_s or ASSUMED_COLD_START_S, now_s)
        return Candidate(
            node_id,
            sighting.name,
            sighting.rtt_s,
            sighting.bytes_per_s,
            state.backlog_s,
            # This node's own backlog is what it is at this moment: what it took is in it.
            site.own.seconds if node_id != self._node_id else 0.0,
            run_s,
            cold_start_s,
            site.correction.factor(now_s),
            loading,
            sighting.standing,
        )
