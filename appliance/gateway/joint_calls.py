"""Small calls of one version that go to one peer in one turn of the loop go as one call of all their rows.

Runs in the gateway's event loop. What a call costs the peer beside its run, it costs for each message and not for each
row; the worker would have joined them all the same. The peer sees one call. Where that fails, each is asked by itself,
so that the fault falls on the call that has it. Who is asked, and what comes of it, is the calls' own affair.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from appliance.core.errors import IngleError, UnavailableError, WorkerFailedError
from appliance.core.frames import AnswerForm
from appliance.core.requests import Buffer
from appliance.gateway.joint_rows import Alike, OneAnswer, alike, answers, gives_rows, joined
from appliance.gateway.routes import Route
from appliance.routing.cost import run_time_s
from appliance.workers.batch_gain import LONG_ROW_S
from appliance.workers.work import Work
from federation.messages import MeshInvoke, MeshReply
from federation.peer import Peer
from federation.turns import AtTurnsEnd

# So many calls leave before the turn ends (benchmarks.mesh_peer, 32 callers: with 8 in one 0.46 of the local calls a
# second, with 16 0.52, with 32 0.56).
_ENOUGH = 32

_log = logging.getLogger("ingle.mesh")


class Member(Protocol):
    """A call that may go with others."""

    def joins(self, node_id: str, joint: "JointCall") -> None:
        """It goes with these, until it is asked alone or told the outcome."""

    def ask_alone(self, node_id: str) -> None:
        """Sends it by itself. Raises UnavailableError where there is no link."""

    def replied_jointly(self, node_id: str, reply: MeshReply, own: OneAnswer, *, first: bool) -> None:
        """Its own rows of an answer to several. `first`: the run is counted for this one."""

    def failed_at(self, node_id: str, error: IngleError, *, elsewhere: bool) -> None:
        """It has no answer from there."""


class Asks(Protocol):
    """Who numbers what peers are asked, and knows their answers by it."""

    def next_number(self) -> int: ...

    def asks_jointly(self, node_id: str, asked: MeshInvoke, body: Sequence[Buffer], joint: "JointCall") -> bool:
        """Whether it was sent; `joint` is told the outcome."""

    def asks_no_more(self, number: int, node_id: str) -> None:
        """Nobody waits for what that peer was asked under this number."""


class _Place(NamedTuple):
    member: Member
    work: Work
    call_id: str
    rows: int


@contextlib.contextmanager
def _of_one_call() -> Iterator[None]:
    """A fault of ours in what is done for one call ends there: the others have their outcomes to hear."""
    try:
        yield
    except Exception:
        _log.exception("a fault of ours in one of several calls to a peer")


class JointCall:
    """Several calls that wait for the end of the turn, and then for the peer."""

    __slots__ = ("_calls", "_left", "_number", "_places", "_route", "_shared", "_waiting", "node_id", "rows")

    def __init__(self, calls: Asks, node_id: str, route: Route, shared: Alike) -> None:
        self.node_id = node_id
        self.rows = 0
        self._calls = calls
        self._route = route
        self._shared = shared
        self._places: list[_Place] = []
        self._waiting: set[Member] = set()
        self._left = False
        self._number = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def model_key(self) -> str:
        return self._route.key

    def add(self, member: Member, work: Work, call_id: str, rows: int) -> None:
        self._places.append(_Place(member, work, call_id, rows))
        self._waiting.add(member)
        self.rows += rows
        member.joins(self.node_id, self)

    def withdraw(self, member: Member) -> None:
        """It wants no answer from this peer any more. What has left runs its rows all the same."""
        self._waiting.discard(member)
        if self._left and not self._waiting:
            self._calls.asks_no_more(self._number, self.node_id)

    def leave(self) -> None:
        """Asks the peer, for those who still want it."""
        self._left = True
        self._places = places = [place for place in self._places if place.member in self._waiting]
        if len(places) < 2:
            self._each_alone()
            return
        shared, route = self._shared, self._route
        heads, bodies, wishes = joined(
            shared, sum(place.rows for place in places), [place.work.parts for place in places]
        )
        now_s, now_ns = time.monotonic(), time.perf_counter_ns()
        for place in places:
            place.work.sent_ns = now_ns
        self._number = self._calls.next_number()
        asked = MeshInvoke(
            self._number,
            route.name,
            route.version,
            route.model.digest,
            AnswerForm.TENSORS,
            heads,
            wishes,
            deadline_s=max(1e-6, max(place.work.deadline_s for place in places) - now_s),
            priority=shared.priority,
            call_id=places[0].call_id,
        )
        if not self._calls.asks_jointly(self.node_id, asked, bodies, self):
            self._each_alone()  # and each is told that there is no link

    # What the peer says.

    def replied(self, node_id: str, reply: MeshReply, body: Sequence[Buffer]) -> None:
        try:
            cut = answers(self._shared, reply.tensors, b"".join(body), [place.rows for place in self._places])
        except WorkerFailedError:
            self._each_alone()
            return
        first = True
        for place, own in zip(self._places, cut, strict=True):
            if place.member in self._waiting:
                with _of_one_call():
                    place.member.replied_jointly(node_id, reply, own, first=first)
                first = False

    def failed_at(self, node_id: str, error: IngleError, *, elsewhere: bool) -> None:
        """The peer has no answer. Where it ran nothing, others may take the calls; else the fault is one call's."""
        if not elsewhere:
            self._each_alone()
            return
        for place in self._places:
            if place.member in self._waiting:
                with _of_one_call():
                    place.member.failed_at(node_id, error, elsewhere=True)

    def _each_alone(self) -> None:
        for place in self._places:
            if place.member in self._waiting:
                with _of_one_call():
                    try:
                        place.member.ask_alone(self.node_id)
                    except UnavailableError as error:
                        place.member.failed_at(self.node_id, error, elsewhere=True)


class JointCalls:
    """take() a call that goes to a peer, if it may go with others."""

    def __init__(self, calls: Asks, peer: Callable[[str], Peer | None]) -> None:
        self._calls = calls
        self._peer = peer
        self._forming: dict[tuple[str, str, Alike], JointCall] = {}
        self._turn = AtTurnsEnd(self._leave)

    def take(self, node_id: str, route: Route, work: Work, call_id: str, member: Member) -> bool:
        """Whether the call goes with others, or alone, at the turn's end or before; if not, it is to be asked now."""
        if not self._turn.expects_more:
            self._turn.one_more()
            return False
        most = route.pool.max_batch
        found = alike(work.invoke, work.parts, work.priority) if most > 1 else None
        if found is None:
            return False
        shared, rows = found
        key = (node_id, route.key, shared)
        joint = self._forming.get(key)
        if joint is not None and joint.rows + rows > most:
            self._forming.pop(key).leave()
            joint = None
        if joint is None:
            if not self._is_short(node_id, route) or not gives_rows(route.model.signature.outputs):
                return False
            joint = self._forming[key] = JointCall(self._calls, node_id, route, shared)
        joint.add(member, work, call_id, rows)
        if len(joint) >= _ENOUGH:
            self._forming.pop(key).leave()
        self._turn.one_more()
        return True

    def peer_gone(self, node_id: str) -> None:
        """Its calls are asked of others."""
        self._forming = {key: joint for key, joint in self._forming.items() if joint.node_id != node_id}

    def _is_short(self, node_id: str, route: Route) -> bool:
        """Whether a run there is so short that what surrounds it outweighs it, and joining never makes it dearer."""
        peer = self._peer(node_id)
        state = peer.models.get(route.key) if peer is not None and not peer.outside else None
        return state is not None and 0.0 < run_time_s(state.run_s, 1) < LONG_ROW_S

    def _leave(self) -> None:
        forming, self._forming = self._forming, {}
        for joint in forming.values():
            joint.leave()
