"""A router with its surroundings as tests have them: a clock moved by hand, peers, and a caller who remembers."""

import heapq
import random
from collections.abc import Callable

from appliance.core.errors import IngleError
from appliance.routing.call import Call
from appliance.routing.routed_call import RoutedCall
from appliance.routing.router import Router
from federation.messages import Hello, Introduction, Load, ModelState
from federation.peer import Peer

KEY = "local/tiny:1.0.0@0123456789abcdef"
ROOM = Load(memory_free_bytes=2**30)


def make_peer(node_id: str, *, rtt_s: float = 0.001, tags: tuple[str, ...] = (), **state: object) -> Peer:
    told = {"replicas": 1, "run_s": {1: 0.01}} | state
    return Peer(
        node_id=node_id,
        name=f"box-{node_id}",
        standing="alive",
        since_s=0.0,
        hello=Hello(1, "1.0", Introduction(node_id, "", b"", "", b"", [], 0, 0), 1, tags=list(tags)),
        rtt_s=rtt_s,
        bytes_per_s=1e9,
        load=ROOM,
        models={KEY: ModelState(**told)},  # type: ignore[arg-type]
    )


class Alarm:
    def __init__(self, what: Callable[[], None]) -> None:
        self.what: Callable[[], None] | None = what

    def cancel(self) -> None:
        self.what = None


class Clock:
    """A loop's call_later() and clock, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._number = 0

    def time(self) -> float:
        return self.now_s

    def call_later(self, after_s: float, what: Callable[[], None]) -> Alarm:
        alarm = Alarm(what)
        self._number += 1
        heapq.heappush(self._alarms, (self.now_s + after_s, self._number, alarm))
        return alarm

    def pass_s(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._alarms and self._alarms[0][0] <= until_s:
            self.now_s, _, alarm = heapq.heappop(self._alarms)
            if alarm.what is not None:
                alarm.what()
        self.now_s = until_s

    @property
    def alarms(self) -> int:
        return sum(alarm.what is not None for _, _, alarm in self._alarms)


class Caller:
    """A Carrier that writes down what it is asked to do. `refusing`: nodes to which nothing can be sent."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.refusing: dict[str, Exception] = {}

    def ask_local(self) -> None:
        self.ask_peer("me")

    def ask_peer(self, node_id: str) -> None:
        self.said.append(f"ask {node_id}")
        if node_id in self.refusing:
            raise self.refusing[node_id]

    def cancel(self, node_id: str) -> None:
        self.said.append(f"cancel {node_id}")

    def deliver(self, node_id: str, outcome: str) -> None:
        self.said.append(f"{outcome} from {node_id}")

    def fail(self, error: IngleError) -> None:
        self.said.append(error.code)


class Mesh:
    def __init__(self, *peers: Peer) -> None:
        self.clock = Clock()
        self.loaded: list[str] = []  # where a load was begun in the background
        self.peers = {peer.node_id: peer for peer in peers}
        self.router = Router(
            node_id="me",
            name="box-me",
            tags=("here",),
            peers=self.peers,
            hedge_share=0.05,
            call_later=self.clock.call_later,
            clock=self.clock.time,
            dice=random.Random(1),
            load=lambda _, place: self.loaded.append(place.node_id),
            own_load=lambda: ROOM,
        )

    def call(self, **asked: object) -> tuple[RoutedCall[str], Caller]:
        call = Call(**({"key": KEY, "size_bytes": 100, "deadline_s": self.clock.now_s + 10} | asked))  # type: ignore[arg-type]
        caller = Caller()
        routed = self.router.route(call, caller)
        routed.start()
        return routed, caller
