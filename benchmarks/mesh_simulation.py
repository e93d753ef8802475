"""How near the router comes to an all-knowing oracle, in simulation: `python -m benchmarks.mesh_simulation`.

Nodes of unlike speeds at unlike distances, each with one model and calls of its own. The router is the node's
(appliance/routing/router.py), one at each node, on a clock that jumps; what it knows of others comes with answers and
every quarter of a second. The oracle knows every queue, and what each call will take, and sends each where it ends
first. Nothing here depends on the machine.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean, median
from typing import NamedTuple, Protocol

from appliance.core.errors import IngleError
from appliance.routing.call import Call
from appliance.routing.routed_call import RoutedCall
from appliance.routing.router import Router
from benchmarks.report import Section, verdict, write_section
from federation.messages import Hello, Introduction, ModelState
from federation.peer import Peer, PeerStanding

STATE_EVERY_S = 0.25
_KEY = "local/model:1.0.0@0123456789abcdef"
_DEADLINE_S = 1e6
_BUSY_SHARE = 0.7
_SIZES = ((5, 20_000), (20, 20_000), (100, 20_000))
_SEEDS = (1, 2, 3)
_WARM_UP_SHARE = 0.1  # of the calls are not counted


class Fleet(NamedTuple):
    """`run_s`: what a run takes at each node, on average. `one_way_s[a][b]`: from one node to another."""

    run_s: list[float]
    one_way_s: list[list[float]]


class Arrival(NamedTuple):
    """A call at node `entry`, of `size` times the average work."""

    at_s: float
    entry: int
    size: float


def make_fleet(nodes: int, dice: random.Random) -> Fleet:
    """Runs of 10 ms in the median, one node in six twice as slow or more, and one as quick; one-way delays of 0.1 to
    5 ms, nodes being points in a square."""
    run_s = [0.01 * dice.lognormvariate(0, 0.7) for _ in range(nodes)]
    places = [(dice.random(), dice.random()) for _ in range(nodes)]
    one_way_s = [[0.0 if a is b else 0.0001 + 0.0035 * math.dist(a, b) for b in places] for a in places]
    return Fleet(run_s, one_way_s)


def make_arrivals(fleet: Fleet, calls: int, busy_share: float, dice: random.Random) -> list[Arrival]:
    """Poisson's, alike at each node, together so many that all nodes' work would fill that share of their time."""
    rate_per_s = busy_share * sum(1 / run_s for run_s in fleet.run_s)
    at_s, arrivals = 0.0, []
    for _ in range(calls):
        at_s += dice.expovariate(rate_per_s)
        arrivals.append(Arrival(at_s, dice.randrange(len(fleet.run_s)), dice.lognormvariate(-0.02, 0.2)))
    return arrivals


class _Alarm:
    def __init__(self, what: Callable[[], None]) -> None:
        self.what: Callable[[], None] | None = what

    def cancel(self) -> None:
        self.what = None


class Sent:
    """A call on its way to one node, or there. Cancelled before its run begins, it does not run."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.cancelled = False


class World:
    """The nodes' queues, first come first served, and the ways between them, on a clock that jumps."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.now_s = 0.0
        self._waiting: list[deque[tuple[Sent, Callable[[float], None]]]] = [deque() for _ in fleet.run_s]
        self._waiting_s = [0.0] * len(fleet.run_s)  # of work, by node
        self._busy_until_s = [0.0] * len(fleet.run_s)
        self.frozen: set[int] = set()  # nodes that take and answer nothing any more
        self.latencies_s: list[float] = []
        self._events: list[tuple[float, int, _Alarm]] = []
        self._number = 0

    def clock(self) -> float:
        return self.now_s

    def call_later(self, after_s: float, what: Callable[[], None]) -> _Alarm:
        alarm = _Alarm(what)
        self._number += 1
        heapq.heappush(self._events, (self.now_s + after_s, self._number, alarm))
        return alarm

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, alarm = heapq.heappop(self._events)
            if alarm.what is not None:
                alarm.what()
        self.now_s = max(self.now_s, until_s)

    def backlog_s(self, node: int) -> float:
        """How long a call that reached the node now would wait."""
        return max(0.0, self._busy_until_s[node] - self.now_s) + self._waiting_s[node]

    def send(self, sent: Sent, node: int, answered: Callable[[float], None]) -> None:
        """The call is sent from where it came in to a node; `answered` hears, when the answer is back, of the backlog
        that the node had when it answered."""
        self.call_later(self._way_s(sent, node), lambda: self._reach(sent, node, answered))

    def cancel(self, sent: Sent, node: int) -> None:
        """Nobody waits for it any more."""
        self.call_later(self._way_s(sent, node), lambda: self._drop(sent, node))

    def _way_s(self, sent: Sent, node: int) -> float:
        return self.fleet.one_way_s[sent.arrival.entry][node]

    def _work_s(self, sent: Sent, node: int) -> float:
        return self.fleet.run_s[node] * sent.arrival.size

    def _reach(self, sent: Sent, node: int, answered: Callable[[float], None]) -> None:
        if node in self.frozen:
            return
        self._waiting[node].append((sent, answered))
        self._waiting_s[node] += self._work_s(sent, node)
        if self._busy_until_s[node] <= self.now_s:
            self._begin(node)

    def _drop(self, sent: Sent, node: int) -> None:
        if any(waiting is sent for waiting, _ in self._waiting[node]):
            sent.cancelled = True
            self._waiting_s[node] -= self._work_s(sent, node)

    def _begin(self, node: int) -> None:
        """The next run, where work waits."""
        while self._waiting[node]:
            sent, answered = self._waiting[node].popleft()
            if not sent.cancelled:
                work_s = self._work_s(sent, node)
                self._waiting_s[node] -= work_s
                self._busy_until_s[node] = self.now_s + work_s
                self.call_later(work_s, partial(self._end, sent, node, answered))
                return
        self._waiting_s[node] = 0.0

    def _end(self, sent: Sent, node: int, answered: Callable[[float], None]) -> None:
        if node in self.frozen:
            return
        self._begin(node)
        backlog_s = self.backlog_s(node)
        self.call_later(self._way_s(sent, node), lambda: answered(backlog_s))

    def count(self, arrival: Arrival) -> None:
        """The call is answered now."""
        self.latencies_s.append(self.now_s - arrival.at_s)


class Policy(Protocol):
    def arrive(self, arrival: Arrival) -> None:
        """The call has come; the policy sends it, and counts it when it is answered."""


class Simple:
    """A policy that chooses a node by the call and what the world is."""

    def __init__(self, world: World, choose: Callable[[World, Arrival], int]) -> None:
        self._world = world
        self._choose = choose

    def arrive(self, arrival: Arrival) -> None:
        world = self._world
        world.send(Sent(arrival), self._choose(world, arrival), lambda _: world.count(arrival))


def nearest(world: World, arrival: Arrival) -> int:
    return min(range(len(world.fleet.run_s)), key=world.fleet.one_way_s[arrival.entry].__getitem__)


class RoundRobin:
    """Each entry goes round by itself."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def __call__(self, world: World, arrival: Arrival) -> int:
        node = self._next.get(arrival.entry, arrival.entry)
        self._next[arrival.entry] = (node + 1) % len(world.fleet.run_s)
        return node


class Oracle:
    """Where the call ends first, all that is under way reckoned in."""

    def __init__(self, nodes: int) -> None:
        self._free_at_s = [0.0] * nodes

    def __call__(self, world: World, arrival: Arrival) -> int:
        ways_s, runs_s = world.fleet.one_way_s[arrival.entry], world.fleet.run_s
        ends_s = [
            max(free_at_s, world.now_s + way_s) + run_s * arrival.size
            for free_at_s, way_s, run_s in zip(self._free_at_s, ways_s, runs_s, strict=True)
        ]
        node = min(range(len(ends_s)), key=lambda node: ends_s[node] + ways_s[node])
        self._free_at_s[node] = ends_s[node]
        return node


class Routed:
    """The node's router, one at each entry."""

    def __init__(self, world: World, *, hedge_share: float = 0.05, seed: int = 1) -> None:
        self._world = world
        nodes = range(len(world.fleet.run_s))
        self._peers = [{str(node): _peer(world, entry, node) for node in nodes if node != entry} for entry in nodes]
        self._routers = [
            Router(
                node_id=str(entry),
                name=str(entry),
                tags=(),
                peers=self._peers[entry],
                hedge_share=hedge_share,
                call_later=world.call_later,
                clock=world.clock,
                dice=random.Random(seed + entry),
            )
            for entry in nodes
        ]
        for node in nodes:
            world.call_later(STATE_EVERY_S * (node + 1) / len(nodes), lambda node=node: self._tell(node))  # type: ignore[misc]

    def arrive(self, arrival: Arrival) -> None:
        carrier = _Carrier(self, arrival)
        call = Call(
            key=_KEY,
            size_bytes=0,
            deadline_s=self._world.now_s + _DEADLINE_S,
            local=_state(self._world, arrival.entry, self._world.backlog_s(arrival.entry)),
        )
        carrier.routed = self._routers[arrival.entry].route(call, carrier)
        carrier.routed.start()

    def freeze(self, node: int, *, suspect_s: float, dead_s: float) -> None:
        """The node stops; the others suspect it, and give it up, so long after."""
        self._world.frozen.add(node)
        self._world.call_later(suspect_s, lambda: self._judge(node, "suspect", Router.peer_suspect))
        self._world.call_later(dead_s, lambda: self._judge(node, "dead", Router.peer_lost))

    def _judge(self, node: int, standing: PeerStanding, tell: Callable[[Router, str], None]) -> None:
        for entry, router in enumerate(self._routers):
            if entry not in self._world.frozen:
                self._peers[entry][str(node)].standing = standing
                tell(router, str(node))

    def _tell(self, node: int) -> None:
        """A node's state, to all."""
        if node in self._world.frozen:
            return
        state = _state(self._world, node, self._world.backlog_s(node))
        for entry, peers in enumerate(self._peers):
            if entry != node:
                peers[str(node)].models[_KEY] = state
        self._world.call_later(STATE_EVERY_S, lambda: self._tell(node))

    def send(self, sent: Sent, node: int, routed: RoutedCall[None]) -> None:
        entry = sent.arrival.entry

        def answered(backlog_s: float) -> None:
            if node != entry:
                self._peers[entry][str(node)].models[_KEY] = _state(self._world, node, backlog_s)
            routed.answered(str(node), None)

        self._world.send(sent, node, answered)

    def cancel(self, sent: Sent, node: int) -> None:
        self._world.cancel(sent, node)

    def count(self, arrival: Arrival) -> None:
        self._world.count(arrival)


class _Carrier:
    def __init__(self, policy: Routed, arrival: Arrival) -> None:
        self._policy = policy
        self._arrival = arrival
        self._sent: dict[int, Sent] = {}
        self.routed: RoutedCall[None]

    def ask_local(self) -> None:
        self._ask(self._arrival.entry)

    def ask_peer(self, node_id: str) -> None:
        self._ask(int(node_id))

    def _ask(self, node: int) -> None:
        self._sent[node] = Sent(self._arrival)
        self._policy.send(self._sent[node], node, self.routed)

    def cancel(self, node_id: str) -> None:
        self._policy.cancel(self._sent[int(node_id)], int(node_id))

    def deliver(self, node_id: str, outcome: None) -> None:
        self._policy.count(self._arrival)

    def fail(self, error: IngleError) -> None:
        raise error


def _state(world: World, node: int, backlog_s: float) -> ModelState:
    return ModelState(replicas=1, backlog_s=backlog_s, run_s={1: world.fleet.run_s[node]})


def _peer(world: World, entry: int, node: int) -> Peer:
    introduction = Introduction(str(node), str(node), b"", "", b"", [], 0, 0)
    return Peer(
        node_id=str(node),
        name=str(node),
        standing="alive",
        since_s=0.0,
        hello=Hello(1, "", introduction, 1),
        rtt_s=2 * world.fleet.one_way_s[entry][node],
        bytes_per_s=1e8,
        models={_KEY: _state(world, node, 0.0)},
    )


def latencies_s(fleet: Fleet, arrivals: Sequence[Arrival], make: Callable[[World], Policy]) -> list[float]:
    """What each call took until its answer, in the order of the answers, those of the beginning left out."""
    world = World(fleet)
    policy = make(world)
    for arrival in arrivals:
        world.run(arrival.at_s)
        policy.arrive(arrival)
    while len(world.latencies_s) < len(arrivals):
        world.run(world.now_s + STATE_EVERY_S)
    return world.latencies_s[int(len(arrivals) * _WARM_UP_SHARE) :]


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def compare(
    nodes: int, calls: int, busy_share: float, seed: int, policies: Mapping[str, Callable[[World], Policy]]
) -> dict[str, tuple[float, float]]:
    """Mean and 99th centile of each policy over the oracle's, which has the same arrivals."""
    fleet = make_fleet(nodes, random.Random(seed))
    arrivals = make_arrivals(fleet, calls, busy_share, random.Random(seed + 1000))
    oracle = latencies_s(fleet, arrivals, lambda world: Simple(world, Oracle(nodes)))
    ratios = {}
    for name, make in policies.items():
        policy = latencies_s(fleet, arrivals, make)
        ratios[name] = (fmean(policy) / fmean(oracle), p99(policy) / p99(oracle))
    return ratios


POLICIES: dict[str, Callable[[World], Policy]] = {
    "the router": Routed,
    "without hedging": lambda world: Routed(world, hedge_share=0.0),
    "round-robin": lambda world: Simple(world, RoundRobin()),
    "nearest": lambda world: Simple(world, nearest),
}


def measure(sizes: Sequence[tuple[int, int]] = _SIZES, seeds: Sequence[int] = _SEEDS) -> Section:
    """Several fleets of each size: how many nodes, and how many calls for each."""
    rows: list[tuple[str, ...]] = []
    means, tails = {}, {}
    for nodes, calls in sizes:
        fleets = [compare(nodes, calls, _BUSY_SHARE, seed, POLICIES) for seed in seeds]
        for name in POLICIES:
            mean, tail = (median(fleet[name][which] for fleet in fleets) for which in (0, 1))
            means[nodes, name], tails[nodes, name] = mean, tail
            rows.append((f"{nodes} nodes, {name}", f"{mean:.2f}", f"{tail:.2f}"))
    verdicts = []
    for nodes, _ in sizes:
        verdicts.append(
            verdict(f"{nodes} nodes: mean over the oracle's", means[nodes, "the router"], 2.5, at_most=True)
        )
        better = tails[nodes, "round-robin"] / tails[nodes, "the router"]
        verdicts.append(verdict(f"{nodes} nodes: round-robin's p99 over the router's", better, 5.0))
    return Section(
        "mesh_simulation",
        f"Simulated nodes of unlike speeds and distances, calls by Poisson at all of them, {_BUSY_SHARE:.0%} of all "
        f"capacity, state {STATE_EVERY_S * 1e3:g} ms old and with answers; over an oracle that knows all. Medians of "
        f"{len(seeds)} fleets.",
        ("", "mean", "p99"),
        rows,
        verdicts,
    )


if __name__ == "__main__":
    write_section(measure())
