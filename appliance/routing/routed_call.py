"""One call under way: its flight, who was asked and at what price, and its timer. Runs in the gateway's event loop.

Performs what flight.py says through the gateway's Carrier, and learns from what comes back. Knows no frames.
"""

import random
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from appliance.core.errors import BadInputError, IngleError
from appliance.routing.call import Call
from appliance.routing.choosing import choose
from appliance.routing.cost import Terms
from appliance.routing.flight import RETRYABLE, Action, Answer, Ask, Cancel, Choice, Fail, Flight
from appliance.routing.hedging import Budget, hedge_after_s
from appliance.routing.learned import LearnedModel
from appliance.routing.own_work import Parcel
from appliance.routing.prices import Prices
from appliance.routing.site import Site

_LEAST_WAIT_S = 0.001  # loops count in milliseconds, and would spin until the moment has come

Outcome = TypeVar("Outcome")
Outcome_contra = TypeVar("Outcome_contra", contravariant=True)


class Timer(Protocol):
    def cancel(self) -> None: ...


class Carrier(Protocol[Outcome_contra]):
    """What the gateway does for one call. An `ask_` that raises IngleError has sent nothing; one may also tell the
    RoutedCall what came of it before it returns.

    Either deliver() or fail() is called, once; neither where the call was cancelled().
    """

    def ask_local(self) -> None: ...

    def ask_peer(self, node_id: str) -> None: ...

    def cancel(self, node_id: str) -> None:
        """Nobody waits any more for what that node, which may be this one, was asked."""

    def deliver(self, node_id: str, outcome: Outcome_contra) -> None: ...

    def fail(self, error: IngleError) -> None: ...


class Surroundings(NamedTuple):
    """What all calls of one router share. `under_way`: by node id, the calls of which that node has yet to speak.
    `chosen` hears of each call's first choice."""

    node_id: str
    prices: Prices
    budget: Budget
    dice: random.Random
    clock: Callable[[], float]
    call_later: Callable[[float, Callable[[], None]], Timer]
    under_way: dict[str, set["RoutedCall[Any]"]]
    chosen: Callable[[Call, LearnedModel, Terms], None]


class _Attempt(NamedTuple):
    """One node that was asked, and has not spoken yet."""

    terms: Terms
    site: Site
    parcel: Parcel
    asked_at_s: float


class Asked(NamedTuple):
    """For the explanation."""

    name: str
    why: str  # first, retry or hedge
    after_s: float  # since the call's beginning


class Considered:
    """Why a call went where it went. It is kept when the call is over, and holds nothing else of it."""

    __slots__ = ("asked", "priced")

    def __init__(self) -> None:
        self.priced: list[Terms] = []  # at the call's beginning
        self.asked: list[Asked] = []

    def explanation(self) -> dict[str, object]:
        """For X-Ingle-Route and `ingle why`: the candidates with the terms of their prices, cheapest first, and who
        was asked."""
        return {
            "candidates": [terms.explained() for terms in sorted(self.priced, key=lambda terms: terms.total_s)],
            "asked": [
                {"node": asked.name, "why": asked.why, "after_s": round(asked.after_s, 6)} for asked in self.asked
            ],
        }


class _Nobody:
    """The Carrier of a call that is over, so that the call and what carried it do not hold each other: the garbage
    collector would have to find them, which takes longer than to route them."""

    def ask_local(self) -> None: ...

    def ask_peer(self, node_id: str) -> None: ...

    def cancel(self, node_id: str) -> None: ...

    def deliver(self, node_id: str, outcome: object) -> None: ...

    def fail(self, error: IngleError) -> None: ...


_NOBODY = _Nobody()


class RoutedCall(Generic[Outcome]):
    """Made by Router.route(), and to be started. The gateway tells it what the nodes say, also after the end."""

    __slots__ = (
        "_actions",
        "_attempts",
        "_awaits",
        "_began_s",
        "_call",
        "_carrier",
        "_chosen",
        "_flight",
        "_model",
        "_outcome",
        "_shared",
        "_timer",
        "_wakes_at_s",
        "considered",
    )

    def __init__(self, call: Call, carrier: Carrier[Outcome], model: LearnedModel, shared: Surroundings) -> None:
        self.considered = Considered()
        self._call = call
        self._carrier: Carrier[Outcome] = carrier
        self._model = model
        self._shared = shared
        self._began_s = 0.0
        self._flight = Flight(
            choose=self._choose,
            may_hedge=shared.budget.spend,
            may_return=self._may_return,
            deadline_s=call.deadline_s,
            binding=call.binding,
            wanted=str(call.pin) if call.pin else "",
            refused=call.local.refused if call.local and not (call.pin or call.bound_to) else "",
        )
        self._awaits = False  # a node that was lost, and nobody was asked yet
        self._attempts: dict[str, _Attempt] = {}
        self._chosen: Terms | None = None
        self._actions: deque[Action] | None = None  # those that are being performed
        self._outcome: Outcome | None = None
        self._timer: Timer | None = None
        self._wakes_at_s = 0.0

    # What the gateway says.

    def start(self) -> None:
        """Asks the first node; the call fails at once where there is none."""
        self._began_s = now_s = self._shared.clock()
        self._shared.budget.earn()
        self._perform(self._flight.start(now_s))
        if self._chosen is not None and len(self.considered.asked) == 1:
            self._shared.chosen(self._call, self._model, self._chosen)

    def answered(self, node_id: str, outcome: Outcome, answer_bytes: int = 0) -> None:
        """The node answered. `answer_bytes`: how large the answer was on the wire, so far as it matters."""
        attempt = self._over(node_id)
        if attempt is None:
            return
        now_s = self._shared.clock()
        terms = attempt.terms
        self._model.succeeded_at(node_id)
        self._model.answered(now_s - self._began_s, answer_bytes)
        if not terms.candidate.cold_start_s:
            attempt.site.correction.learn(now_s - attempt.asked_at_s - terms.network_s, terms.uncorrected_s, now_s)
        self._outcome = outcome
        self._perform(self._flight.answered(node_id))

    def failed(self, node_id: str, error: IngleError, *, elsewhere: bool) -> None:
        """The node has no answer. `elsewhere`: nothing was run there, and another may take the call."""
        attempt = self._over(node_id)
        if attempt is None:
            return
        now_s = self._shared.clock()
        if elsewhere or error.code in RETRYABLE:
            self._model.failed_at(node_id, now_s)
            attempt.site.does_not_load()
        else:
            self._model.succeeded_at(node_id)
        self._perform(self._flight.failed(node_id, error, now_s, elsewhere=elsewhere))

    def cancelled(self) -> None:
        """The caller has gone."""
        self._perform(self._flight.cancelled())

    # What the router says.

    def lost(self, node_id: str) -> None:
        """The node, or the link to it, is no more."""
        if self._over(node_id) is not None:
            self._perform(self._flight.lost(node_id, self._shared.clock()))

    def suspect(self, node_id: str) -> None:
        """The node is silent."""
        self._perform(self._flight.suspect(node_id, self._shared.clock()))

    # What it does.

    def _choose(self, excluded: Collection[str], now_s: float) -> Choice | None:
        priced = self._shared.prices.of(self._call, self._model, excluded, now_s)
        if not self.considered.asked:
            self.considered.priced = priced
        chosen = self._chosen = choose(priced, self._shared.dice)
        if chosen is None:
            return None
        return Choice(
            chosen.candidate.node_id,
            hedge_after_s(self._model.centile.seconds, chosen.total_s),
            suspect=chosen.candidate.standing == "suspect",
            poor=chosen.candidate.standing != "alive" or chosen.would_load,
        )

    def _may_return(self, now_s: float) -> bool:
        """Counts the call in, where it may wait."""
        has_room = self._model.awaiting < self._call.max_waiting
        self._awaits = has_room and self._shared.prices.may_return(self._call, now_s)
        self._model.awaiting += self._awaits
        return self._awaits

    def _awaits_no_more(self) -> None:
        if self._awaits:
            self._awaits = False
            self._model.awaiting -= 1

    def _perform(self, actions: list[Action]) -> None:
        """What an event gives while others' actions are performed comes after those."""
        if self._actions is not None:
            self._actions.extend(actions)
            return
        self._actions = queue = deque(actions)
        try:
            while queue:
                action = queue.popleft()
                if isinstance(action, Ask):
                    self._ask(action)
                elif isinstance(action, Answer):
                    self._carrier.deliver(action.node_id, self._outcome)  # type: ignore[arg-type]
                elif isinstance(action, Cancel):
                    self._cancel(action.node_id)
                elif isinstance(action, Fail):
                    self._carrier.fail(action.error)
                else:
                    self._wake(action.at_s)
        finally:
            self._actions = None
        if self._flight.over:
            self._awaits_no_more()
            self._carrier, self._outcome = _NOBODY, None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _ask(self, ask: Ask) -> None:
        terms, shared, node_id = self._chosen, self._shared, ask.node_id
        assert terms is not None  # who is asked was chosen just before
        self._awaits_no_more()
        now_s = shared.clock()
        site = self._model.site(node_id)
        if terms.would_load:
            site.loads(now_s)
        if node_id in self._model.troubled:
            site.breaker.asked(now_s)
        replicas = site.state.replicas if site.state is not None else 1
        self._attempts[node_id] = _Attempt(
            terms, site, site.own.sent(now_s, terms.candidate.run_s / max(1, replicas)), now_s
        )
        self.considered.asked.append(Asked(terms.candidate.name, ask.why, now_s - self._began_s))
        try:
            if node_id == shared.node_id:
                self._carrier.ask_local()
            else:
                shared.under_way.setdefault(node_id, set()).add(self)
                self._carrier.ask_peer(node_id)
        except IngleError as error:
            self.failed(node_id, error, elsewhere=not isinstance(error, BadInputError))

    def _cancel(self, node_id: str) -> None:
        attempt = self._over(node_id)
        if attempt is not None:
            now_s, terms = self._shared.clock(), attempt.terms
            if not terms.candidate.cold_start_s:
                late_s = now_s - attempt.asked_at_s - terms.network_s
                attempt.site.correction.learn_at_least(late_s, terms.uncorrected_s, now_s)
            self._carrier.cancel(node_id)

    def _over(self, node_id: str) -> _Attempt | None:
        """The node has spoken, or need not any more."""
        attempt = self._attempts.pop(node_id, None)
        if attempt is not None:
            attempt.site.own.done(attempt.parcel)
            calls = self._shared.under_way.get(node_id)
            if calls is not None:
                calls.discard(self)
        return attempt

    def _wake(self, at_s: float) -> None:
        """An earlier timer is left as it is: it does no harm."""
        if self._timer is not None:
            if self._wakes_at_s <= at_s:
                return
            self._timer.cancel()
        self._wakes_at_s = at_s
        self._timer = self._shared.call_later(max(_LEAST_WAIT_S, at_s - self._shared.clock()), self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._perform(self._flight.timer(self._shared.clock()))
