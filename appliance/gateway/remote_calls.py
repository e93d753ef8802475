"""Calls that this node or a peer may answer: asked of whom the router chooses, and answered to whoever waits.

Runs in the gateway's event loop. The router decides who is asked, again and at all; here its decisions become works for
this node's pool and INVOKE messages for peers, and what comes back becomes the caller's outcome. A sequence that begins
on a peer stays there.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from appliance.core.client_memory import MemorySpan
from appliance.core.errors import (
    BadInputError,
    BusyError,
    IngleError,
    UnavailableError,
    WorkerFailedError,
    error_from_code,
)
from appliance.core.frames import Answer, AnswerForm, TensorHead
from appliance.core.models import ModelVersion
from appliance.core.requests import Buffer, CallRequest, SequenceStep
from appliance.gateway.joint_calls import JointCall, JointCalls
from appliance.gateway.joint_rows import OneAnswer
from appliance.gateway.routes import Route
from appliance.routing.call import Call
from appliance.routing.copying import SLOW_S
from appliance.routing.flight import Binding
from appliance.routing.own_state import OwnState, key_of
from appliance.routing.pins import parse_pin
from appliance.routing.routed_call import RoutedCall
from appliance.routing.router import Router
from appliance.workers.memory_outputs import NoRegion, PlacedOutput, deliver, place
from appliance.workers.work import Outcome, Work
from federation.credible import credible_figures
from federation.messages import Cancel, Head, Load, MeshFault, MeshInvoke, MeshReply, ModelState
from federation.peer import Peer

_MAX_BOUND = 10_000  # sequences on peers; the oldest is forgotten first

_LONGEST_RETRY_S = 3600.0  # that a peer may tell callers to wait
_LARGE_BYTES = 64 * 1024  # what is as large says something of the wire's width
_TENSORS = int(AnswerForm.TENSORS)

Send = Callable[[str, Head, Sequence[Buffer]], bool]


class Asked(Protocol):
    """What a peer was asked under one number."""

    @property
    def model_key(self) -> str: ...

    def replied(self, node_id: str, reply: MeshReply, body: Sequence[Buffer]) -> None: ...

    def failed_at(self, node_id: str, error: IngleError, *, elsewhere: bool) -> None: ...


class Heard(Protocol):
    """Who is told what a peer's answer says besides."""

    def heard_load(self, node_id: str, key: str, model_state: ModelState | None, load: Load | None) -> None:
        """How the peer fares with that version, and altogether."""

    def moved(self, node_id: str, size_bytes: int, took_s: float) -> None:
        """So many bytes went there and back in so long."""


class SequenceKey(NamedTuple):
    """A sequence that a peer keeps: whose it is, of which version, and its caller's own word for it."""

    key_id: str
    model: str
    id: str


class RemoteCalls:
    """submit() a call; on_reply() and on_fault() bring what peers say of theirs.

    `send` says something to a peer, `peer` tells who it is, `next_number` numbers a call among all that this node's
    workers and peers are asked.
    """

    def __init__(
        self,
        router: Router,
        own_state: OwnState,
        *,
        node_id: str,
        send: Send,
        peer: Callable[[str], Peer | None],
        heard: Heard,
        next_number: Callable[[], int],
    ) -> None:
        self._router = router
        self._own_state = own_state
        self.node_id = node_id
        self.send = send
        self._peer = peer
        self._heard = heard
        self.next_number = next_number
        self._asked: dict[int, tuple[str, Asked]] = {}  # by the number that the peer was given
        self.joint = JointCalls(self, peer)
        self.under_way = 0  # calls that were submitted, and whose callers were told nothing yet
        self.nearest_s = 0.0  # the least round trip to a peer; whoever publishes this node's state measures it
        self._bound: dict[SequenceKey, str] = {}  # the peers that keep sequences' states

    def submit(self, route: Route, work: Work, request: CallRequest, call_id: str, key_id: str) -> None:
        """Has the call answered by this node or another: `work.future` is told the outcome, perhaps before this
        returns. `key_id`: whose call it is. Raises BadInputError for a sequence that is not under way."""
        pin = parse_pin(request.pin) if request.pin else None
        model = route.model
        if pin is None and not request.explain and self._is_near(route):
            route.pool.submit(work)
            return
        local = self._own_state.of(model) if model.folder and not route.pool.closed else None
        step = request.sequence if model.manifest.state else None
        bound: Binding = "once" if model.manifest.permissions.get("no_retry") is True else "free"
        bound_to, sequence = "", ""
        if step is not None:
            key = SequenceKey(key_id, route.key, str(step.id))
            bound, sequence = "sequence", f"{key_id}/{step.id}"
            if not step.start:
                bound_to = self._bound.get(key, "")
                if not bound_to:
                    raise BadInputError(
                        f"no sequence {step.id!r:.80} of {route.name} is under way: its first call says sequence_start"
                    )
            if step.end:
                self._bound.pop(key, None)
        carrier = _Carrier(self, route, work, call_id, may_join=bound == "free" and not work.memory_outputs)
        if step is not None:
            carrier.sequence = sequence
            carrier.step = step
            carrier.key = key
        call = Call(
            route.key,
            sum(map(len, work.parts)),
            work.deadline_s,
            local,
            _rows(route, request),
            pin,
            bound,
            bound_to,
            route.pool.max_waiting,
        )
        carrier.routed = self._router.route(call, carrier)
        work.flight, work.choice = carrier, carrier.routed.considered
        self.under_way += 1
        carrier.routed.start()

    def _is_near(self, route: Route) -> bool:
        """Whether this node will have answered before a question could have reached any peer: then nothing need be
        weighed, which takes longer than a tiny model's run."""
        pool = route.pool
        ready = pool.replicas_that_are("ready") if route.model.folder else 0
        times = pool.run_times
        return ready > 0 and 0 < times.call_s * (pool.waiting + pool.in_flight + ready) <= ready * self.nearest_s

    def may_spread(self, route: Route) -> bool:
        """Whether calls of a version that lies here alone wait so long that another node may be worth a copy: they go
        by the router then, which sees to that."""
        pool = route.pool
        if not pool.waiting:
            return False
        ready = pool.replicas_that_are("ready")
        return pool.run_times.wait_s(pool.waiting + pool.in_flight, ready) > SLOW_S

    def fares(self, model: ModelVersion, holders: Iterable[str]) -> dict[str, str]:
        """Of those of the nodes that are in reach, by name: `warm` or `asleep`."""
        key = key_of(model)
        peers = [peer for node_id in holders if (peer := self._peer(node_id)) is not None]
        return {
            peer.name: "warm" if key in peer.models and peer.models[key].replicas else "asleep"
            for peer in peers
            if peer.standing in ("alive", "suspect")
        }

    # What peers say.

    def on_reply(self, node_id: str, reply: MeshReply, body: Sequence[Buffer]) -> None:
        """A peer's answer; one that nobody waits for any more is passed over."""
        asked = self._taken(node_id, reply.call)
        if asked is not None:
            if not credible_figures(reply):
                _pass_over_figures(reply)
            if reply.model_state is not None:
                self._heard.heard_load(node_id, asked.model_key, reply.model_state, reply.load)
            asked.replied(node_id, reply, body)

    def on_fault(self, node_id: str, fault: MeshFault) -> None:
        """A peer has no answer."""
        asked = self._taken(node_id, fault.call)
        if asked is not None:
            if fault.model_state is not None:
                self._heard.heard_load(node_id, asked.model_key, fault.model_state, None)
            error = error_from_code(fault.code, fault.sentence)
            error.retry_after_s = fault.retry_after_s if 0 < fault.retry_after_s <= _LONGEST_RETRY_S else None
            asked.failed_at(node_id, error, elsewhere=fault.elsewhere)

    def _taken(self, node_id: str, number: int) -> Asked | None:
        asked = self._asked.get(number)
        if asked is None or asked[0] != node_id:
            return None
        del self._asked[number]
        return asked[1]

    def peer_gone(self, node_id: str) -> None:
        """The link to it is no more: whatever it was asked is asked of others."""
        for number in [number for number, (asked, _) in self._asked.items() if asked == node_id]:
            del self._asked[number]
        self.joint.peer_gone(node_id)
        self._router.peer_lost(node_id)

    def peer_suspect(self, node_id: str) -> None:
        """It is silent: whatever it was asked is asked of others too."""
        self._router.peer_suspect(node_id)

    # For the carriers.

    def asks(self, number: int, node_id: str, asked: Asked) -> None:
        self._asked[number] = (node_id, asked)

    def asks_jointly(self, node_id: str, asked: MeshInvoke, body: Sequence[Buffer], joint: JointCall) -> bool:
        """As send(); `joint` is told the outcome of what was sent."""
        self._asked[asked.call] = (node_id, joint)
        if self.send(node_id, asked, body):
            return True
        del self._asked[asked.call]
        return False

    def asks_no_more(self, number: int, node_id: str) -> None:
        if self._asked.pop(number, None) is not None:
            self.send(node_id, Cancel(number), ())

    def binds(self, key: SequenceKey, node_id: str) -> None:
        """The sequence begins on that peer, and stays there."""
        if len(self._bound) >= _MAX_BOUND:
            del self._bound[next(iter(self._bound))]
        self._bound[key] = node_id

    def moved(self, node_id: str, size_bytes: int, took_s: float) -> None:
        """A large call and its answer went to that peer and back in so long, the time there left out."""
        if size_bytes >= _LARGE_BYTES:
            self._heard.moved(node_id, size_bytes, took_s)

    def name_of(self, node_id: str) -> str:
        peer = self._peer(node_id)
        return peer.name if peer is not None else node_id


def _pass_over_figures(reply: MeshReply) -> None:
    """What cannot be meant would stay in this node's statistics for good."""
    reply.decode_ns = reply.wait_ns = reply.run_ns = reply.encode_ns = 0
    reply.executions = reply.batch_rows = 1
    reply.queue_s = reply.load_s = reply.total_s = 0.0


def _rows(route: Route, request: CallRequest) -> int:
    """How many rows the call has, where its rows may share a run with others'."""
    shape = request.tensors[0].shape if route.model.batchable and request.tensors else ()
    return max(1, shape[0]) if shape else 1


class _Carrier:
    """What the router has done for one call."""

    __slots__ = (
        "_asked",
        "_call_id",
        "_calls",
        "_local",
        "_may_join",
        "_over",
        "_placed",
        "_route",
        "_work",
        "key",
        "routed",
        "sequence",
        "step",
    )

    def __init__(self, calls: RemoteCalls, route: Route, work: Work, call_id: str, *, may_join: bool) -> None:
        """`may_join`: it may be asked with others, and by itself after that."""
        self._calls = calls
        self._route = route
        self._work = work
        self._call_id = call_id
        self._may_join = may_join
        self._over = False
        self._placed: Mapping[str, PlacedOutput] = {}
        self.sequence = ""
        self.step: SequenceStep | None = None
        self.key: SequenceKey | None = None
        self._local: _LocalAttempt | None = None
        self._asked: dict[str, int | JointCall] = {}  # what peers were asked: by its number, or with others
        self.routed: RoutedCall[Outcome]

    @property
    def model_key(self) -> str:
        return self._route.key

    # What the router says.

    def ask_local(self) -> None:
        """Hands the call to this node's own pool, as a work of its own. Raises IngleError where it is not taken."""
        work, attempt = self._work, _LocalAttempt(self)
        invoke = msgspec.structs.replace(work.invoke, call=self._calls.next_number())
        attempt.work = own = Work(invoke, work.parts, work.deadline_s, attempt, work.sent_ns)
        own.priority, own.patience_turns, own.memory_outputs = work.priority, work.patience_turns, work.memory_outputs
        self._local = attempt
        self._route.pool.submit(own)

    def ask_peer(self, node_id: str) -> None:
        """Sends the call to a peer, with others where it may. Raises UnavailableError where there is no link to it."""
        if not (self._may_join and self._calls.joint.take(node_id, self._route, self._work, self._call_id, self)):
            self.ask_alone(node_id)

    def joins(self, node_id: str, joint: JointCall) -> None:
        """It is asked with others."""
        self._asked[node_id] = joint

    def ask_alone(self, node_id: str) -> None:
        """Sends the call to a peer. Raises UnavailableError where there is no link to it."""
        work, route = self._work, self._route
        invoke, step, outputs = work.invoke, self.step, work.invoke.outputs
        if work.memory_outputs and outputs:
            outputs, self._placed = place(outputs, work.memory_outputs, NoRegion())
        number = self._calls.next_number()
        parts = [part.read() if isinstance(part, MemorySpan) else part for part in work.parts]
        asked = MeshInvoke(
            number,
            route.name,
            route.version,
            route.model.digest,
            invoke.form,
            invoke.tensors,
            outputs,
            invoke.binary,
            invoke.content_type,
            max(1e-6, work.deadline_s - time.monotonic()),
            work.priority,
            self._call_id,
            self.sequence,
            step is not None and step.start,
            step is not None and step.end,
        )
        self._calls.asks(number, node_id, self)
        self._asked[node_id] = number
        work.sent_ns = time.perf_counter_ns()
        if not self._calls.send(node_id, asked, parts):
            del self._asked[node_id]
            self._calls.asks_no_more(number, node_id)
            raise UnavailableError(f"there is no link to {self._calls.name_of(node_id)} now")
        if self.key is not None and step is not None and step.start and not step.end:
            self._calls.binds(self.key, node_id)

    def cancel(self, node_id: str) -> None:
        if node_id == self._calls.node_id:
            self._drop_local()
            return
        asked = self._asked.pop(node_id, None)
        if isinstance(asked, JointCall):
            asked.withdraw(self)
        elif asked is not None:
            self._calls.asks_no_more(asked, node_id)

    def deliver(self, node_id: str, outcome: Outcome) -> None:
        self._ends()
        work = self._work
        if node_id != self._calls.node_id:
            work.ran_on = self._calls.name_of(node_id)
        if not work.future.done():
            work.future.set_result(outcome)

    def fail(self, error: IngleError) -> None:
        self._ends()
        if not self._work.future.done():
            self._work.future.set_exception(error)

    # What comes back.

    def replied(self, node_id: str, reply: MeshReply, body: Sequence[Buffer]) -> None:
        self._asked.pop(node_id, None)
        answer = self._answer(reply, reply.tensors, reply.text_size, reply.executions)
        content = b"".join(body)
        size_bytes = len(content) + sum(map(len, self._work.parts))
        self._calls.moved(node_id, size_bytes, (time.perf_counter_ns() - self._work.sent_ns) / 1e9 - reply.total_s)
        try:
            if not _adds_up(self._work.invoke.form, answer, len(content)):
                raise WorkerFailedError(f"{self._calls.name_of(node_id)} sent an answer whose sizes do not add up")
            if self._placed:
                content = deliver(answer, content, self._placed, None)
        except IngleError as error:
            self.failed_at(node_id, error, elsewhere=False)
            return
        self._work.remote_s = (reply.queue_s, reply.load_s)
        self.routed.answered(node_id, (answer, content), len(content))

    def replied_jointly(self, node_id: str, reply: MeshReply, own: OneAnswer, *, first: bool) -> None:
        """A peer has answered several calls in one, and this is what it said to this one."""
        self._asked.pop(node_id, None)
        answer = self._answer(reply, own.heads, own.text_size, reply.executions if first else 0)
        self._work.remote_s = (reply.queue_s, reply.load_s)
        self.routed.answered(node_id, (answer, own.body), len(own.body))

    def failed_at(self, node_id: str, error: IngleError, *, elsewhere: bool) -> None:
        """A peer has no answer."""
        self._asked.pop(node_id, None)
        self.routed.failed(node_id, error, elsewhere=elsewhere)

    def _answer(self, reply: MeshReply, heads: list[TensorHead], text_size: int, executions: int) -> Answer:
        return Answer(
            self._work.invoke.call,
            heads,
            text_size,
            reply.decode_ns,
            reply.wait_ns,
            reply.run_ns,
            reply.encode_ns,
            executions,
            reply.batch_rows,
        )

    def answered_here(self, attempt: "_LocalAttempt", outcome: Outcome) -> None:
        if attempt.work is not None:
            self._work.sent_ns = attempt.work.sent_ns
        attempt.work = self._local = None  # each holds the other
        self.routed.answered(self._calls.node_id, outcome, len(outcome[1]))

    def failed_here(self, attempt: "_LocalAttempt", error: IngleError) -> None:
        attempt.work = self._local = None
        elsewhere = isinstance(error, UnavailableError | BusyError)  # nothing was run
        self.routed.failed(self._calls.node_id, error, elsewhere=elsewhere)

    def caller_gone(self) -> None:
        """The caller has hung up, or its deadline has passed."""
        self._ends()
        self.routed.cancelled()

    def _ends(self) -> None:
        if not self._over:
            self._over = True
            self._calls.under_way -= 1

    def _drop_local(self) -> None:
        if (attempt := self._local) is not None:
            attempt.gone()
            attempt.work = self._local = None


class _LocalAttempt:
    """Waits for this node's own outcome in the place of an asyncio.Future."""

    __slots__ = ("_carrier", "_done", "work")

    def __init__(self, carrier: _Carrier) -> None:
        self._carrier = carrier
        self._done = False
        self.work: Work | None = None

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Outcome, /) -> None:
        self._done = True
        self._carrier.answered_here(self, result)

    def set_exception(self, exception: IngleError, /) -> None:
        self._done = True
        self._carrier.failed_here(self, exception)

    def gone(self) -> None:
        """Nobody waits: the pool passes it over."""
        self._done = True


def _adds_up(form: int, answer: Answer, size_bytes: int) -> bool:
    """Whether a peer's answer is as large as it says: what follows is cut by its sizes."""
    sizes = [head.size_bytes for head in answer.tensors]
    if min(sizes, default=0) < 0 or not 0 <= answer.text_size <= size_bytes:
        return False
    return form != _TENSORS or sum(sizes) == size_bytes
