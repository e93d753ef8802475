"""Where a call goes that this node and its peers could answer, and what becomes of it until its caller has an answer.

Runs in the gateway's event loop, one for the node; it is asked only where a peer has the model. It owns what is shared
by all calls that are routed; each is a RoutedCall. It knows no frames, no futures and no links.
"""

import random
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from appliance.routing.call import Call
from appliance.routing.copying import CONSIDER_S, LoadsUnderWay, Place, is_slow, new_place, places
from appliance.routing.cost import Terms
from appliance.routing.hedging import Budget
from appliance.routing.learned import Learned, LearnedModel
from appliance.routing.prices import Prices
from appliance.routing.routed_call import Carrier, RoutedCall, Surroundings, Timer
from federation.messages import Load
from federation.peer import Peer

Outcome = TypeVar("Outcome")


class Router:
    def __init__(
        self,
        *,
        node_id: str,
        name: str,
        tags: Collection[str],
        peers: Mapping[str, Peer],
        hedge_share: float,
        call_later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float] = time.monotonic,
        dice: random.Random | None = None,
        load: Callable[[str, Place], None] | None = None,
        own_load: Callable[[], Load] = Load,
    ) -> None:
        """`peers`, by node id, is read at each call and never changed. `call_later`: the loop's.

        `load(key, place)` has a node, which may be this one, load a version in the background, once it has fetched it
        where it does not hold it; load_ended() or load_failed() says what came of it. Without it, models are loaded by
        calls alone. `own_load`: how busy this node is altogether.
        """
        dice = dice or random.Random()  # noqa: S311
        prices = Prices(node_id=node_id, name=name, tags=tags, peers=peers, dice=dice)
        self._peers = peers
        self._learned = Learned()
        self._load = load
        self._own_load = own_load
        self._loads = LoadsUnderWay()
        self._shared = Surroundings(node_id, prices, Budget(hedge_share), dice, clock, call_later, {}, self._chosen)

    def holders(self, key: str) -> list[str]:
        """The peers that have the version, warm or cold, and are not dead. It looks at every peer: ask once a
        generation of the catalogue, not once a call."""
        return [
            node_id
            for node_id, peer in self._peers.items()
            if peer.standing != "dead" and (key in peer.holdings or key in peer.models)
        ]

    def route(self, call: Call, carrier: Carrier[Outcome]) -> RoutedCall[Outcome]:
        """The call, to be started: its start() asks the best node through `carrier`, which hears the outcome, perhaps
        before that returns."""
        return RoutedCall(call, carrier, self._learned.model(call.key), self._shared)

    # What the mesh says of peers.

    def peer_lost(self, node_id: str) -> None:
        """The peer is dead, or its link ended: its calls go elsewhere, or are told so."""
        for routed in self._shared.under_way.pop(node_id, set()):
            routed.lost(node_id)
        self._learned.forget_node(node_id)

    def peer_suspect(self, node_id: str) -> None:
        """The peer is silent: its calls are asked of others too."""
        for routed in list(self._shared.under_way.get(node_id, ())):
            routed.suspect(node_id)

    # Copies.

    def _chosen(self, call: Call, model: LearnedModel, best: Terms) -> None:
        """Where even the best node is slow, another is told to load the model; the call is under way already."""
        if self._load is None or not is_slow(best) or best.would_load or best.candidate.loading:
            return
        if call.pin is not None or call.binding == "sequence":
            return
        now_s = self._shared.clock()
        if now_s - model.considered_at_s < CONSIDER_S:
            return
        model.considered_at_s = now_s
        loads_at = self._loads.where(call.key, now_s)
        if loads_at and not self._is_warm(call, loads_at):
            return
        found = places(call, best, self._peers, self._shared.node_id, self._own_load())
        place = new_place(best, self._loads.untried(call.key, found, now_s))
        if place is not None:
            self._loads.begins(call.key, place.node_id, now_s)
            self._load(call.key, place)

    def _is_warm(self, call: Call, node_id: str) -> bool:
        peer = self._peers.get(node_id)
        state = call.local if node_id == self._shared.node_id else peer.models.get(call.key) if peer else None
        return state is not None and state.replicas > 0

    def load_ended(self, key: str, node_id: str) -> None:
        """What `load` was told to do is done."""
        self._loads.ended(key, node_id)

    def load_failed(self, key: str, node_id: str) -> None:
        """What `load` was told to do could not be done."""
        self._loads.failed(key, node_id, self._shared.clock())
