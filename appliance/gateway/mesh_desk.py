"""Calls that other nodes of the mesh send here: taken to the data plane, and their outcomes sent back.

Runs in the gateway's event loop. A peer's call runs here or nowhere: it is never handed on. Who its caller is, and what
they may do, the node where it came in has seen to. Each answer tells how this node fares with the model by then.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from appliance.core.errors import (
    BadInputError,
    BusyError,
    ConflictError,
    IngleError,
    NotFoundError,
    UnavailableError,
)
from appliance.core.frames import Answer, AnswerForm
from appliance.core.models import ModelVersion
from appliance.core.requests import Buffer, CallRequest, SequenceStep
from appliance.gateway.late_answers import LateAnswers, Send
from appliance.gateway.routes import Route
from appliance.gateway.waiter import DeskWaiter
from appliance.security.scopes import Principal, Scope
from federation.messages import Load, MeshFault, MeshInvoke, MeshReply, ModelState
from federation.turns import AtTurnsEnd

if TYPE_CHECKING:
    from appliance.gateway.dataplane import DataPlane

# What a peer may have under way here; each of its calls was admitted by it, so that this bounds a peer that went wrong.
MAX_CALLS_OF_A_PEER = 10_000

# Faults of this node rather than of the call: nothing was run, and another node may answer.
_ELSEWHERE = (NotFoundError.code, UnavailableError.code, BusyError.code, ConflictError.code)

_FORMS = frozenset(int(form) for form in AnswerForm)

_log = logging.getLogger("ingle.mesh")


class MeshDesk:
    """Calls of peers that are under way here. `send` says something to a peer; `fares` and `load` tell how this node is
    with a version, and altogether."""

    def __init__(
        self,
        dataplane: "DataPlane",
        send: Send,
        fares: Callable[[ModelVersion], ModelState],
        load: Callable[[], Load],
    ) -> None:
        self._dataplane = dataplane
        self._send = send
        self._fares = fares
        self._load = load
        self._calls: dict[str, dict[int, DeskWaiter]] = {}
        self._replies: list[tuple[str, Route, MeshReply, bytes]] = []  # of this turn
        self._late = LateAnswers(send, dataplane.held)
        self._turn = AtTurnsEnd(self.tell)
        self._principals: dict[str, Principal] = {}

    def invoke(self, node_id: str, asked: MeshInvoke, body: Sequence[Buffer]) -> None:
        """Takes a peer's call."""
        calls = self._calls.setdefault(node_id, {})
        waiter = DeskWaiter(self, asked.call, source=node_id)
        try:
            if asked.call in calls:
                return  # it is under way: the peer numbers its calls, and this is one of them again
            if len(calls) >= MAX_CALLS_OF_A_PEER:
                raise BusyError(f"{MAX_CALLS_OF_A_PEER} calls of one peer are under way here", retry_after_s=1.0)
            waiter.size_bytes = sum(map(len, body))
            self._dataplane.held.take(waiter.size_bytes)
            calls[asked.call] = waiter
            principal = self._principals.get(node_id)
            if principal is None:
                principal = self._principals[node_id] = Principal(f"mesh:{node_id}", "a peer", (Scope("call"),))
            waiter.begun = self._dataplane.begin_for_peer(
                to_request(asked, body), asked.digest, asked.call_id, principal, waiter
            )
        except IngleError as error:
            self._refuse(waiter, error)
        except Exception as error:
            self._fault(waiter, error)

    def cancel(self, node_id: str, call: int) -> None:
        """The peer waits for this call no more."""
        if (waiter := self._calls.get(node_id, {}).get(call)) is not None:
            self._drop(waiter)

    def peer_gone(self, node_id: str) -> None:
        """Nobody can be answered there any more; whoever comes back counts its calls anew."""
        self._replies = [reply for reply in self._replies if reply[0] != node_id]
        self._late.peer_gone(node_id)
        for waiter in list(self._calls.pop(node_id, {}).values()):
            self._drop(waiter)

    def answered(self, waiter: DeskWaiter, answer: Answer, body: bytes) -> None:
        """The worker's answer has come."""
        assert waiter.begun is not None
        try:
            done = self._dataplane.finished(waiter.begun, answer, body)
        except Exception as error:
            self._fault(waiter, error)
            return
        if not self._forget(waiter):
            return
        seconds = done.seconds
        reply = MeshReply(
            waiter.number,
            answer.tensors,
            answer.text_size,
            answer.decode_ns,
            answer.wait_ns,
            answer.run_ns,
            answer.encode_ns,
            answer.executions,
            answer.batch_rows,
            seconds.queue,
            seconds.load,
            seconds.total,
        )
        self._replies.append((waiter.source, waiter.begun.route, reply, body))
        self._turn.one_more()

    def tell(self) -> None:
        """Sends a turn's replies, at its end or before. How this node fares is told once to each peer, for when all of
        them are done."""
        replies, self._replies = self._replies, []
        told: set[tuple[str, str]] = set()
        for node_id, route, reply, body in replies:
            try:
                if (node_id, route.key) not in told:
                    told.add((node_id, route.key))
                    reply.model_state, reply.load = self._fares(route.model), self._load()
                if not self._send(node_id, reply, (body,)):
                    self._late.keep(node_id, reply, body)
            except IngleError as error:  # too large a head, or too much is kept already
                self._say(node_id, MeshFault(reply.call, error.code, error.sentence))
            except Exception:  # of one reply; the others are of other calls
                _log.exception("a fault of ours in a peer's answer")
                sentence = "the node failed on this answer, and has logged why"
                self._say(node_id, MeshFault(reply.call, IngleError.code, sentence))

    def failed(self, waiter: DeskWaiter, error: IngleError) -> None:
        if waiter.begun is None:
            return  # it was not admitted, and the peer was told
        self._dataplane.failed(waiter.begun, error)
        self._refuse(waiter, error)

    def _refuse(self, waiter: DeskWaiter, error: IngleError) -> None:
        if not self._forget(waiter):
            return
        state = self._fares(waiter.begun.route.model) if waiter.begun is not None else None
        elsewhere = error.code in _ELSEWHERE
        fault = MeshFault(waiter.number, error.code, error.sentence, elsewhere, error.retry_after_s or 0.0, state)
        self._say(waiter.source, fault)

    def _say(self, node_id: str, fault: MeshFault) -> None:
        if not self._send(node_id, fault, ()):
            self._late.keep_fault(node_id, fault)

    def _fault(self, waiter: DeskWaiter, error: Exception) -> None:
        _log.error("a fault of ours in a peer's call", exc_info=error)
        self._refuse(waiter, IngleError("the node failed on this request, and has logged why"))

    def _forget(self, waiter: DeskWaiter) -> bool:
        """Whether it was still known."""
        self._dataplane.held.give_back(waiter.size_bytes)
        waiter.size_bytes = 0
        return self._calls.get(waiter.source, {}).pop(waiter.number, None) is waiter or waiter.begun is None

    def _drop(self, waiter: DeskWaiter) -> None:
        self._forget(waiter)
        if not waiter.done() and waiter.begun is not None:
            waiter.gone()
            self._dataplane.dropped(waiter.begun)


def to_request(asked: MeshInvoke, body: Sequence[Buffer]) -> CallRequest:
    """The call that a peer asks for, to be run here. Raises BadInputError where it asks for a form that is unknown, or
    says no time."""
    if not math.isfinite(asked.deadline_s):
        raise BadInputError(f"the deadline is {asked.deadline_s} s: expected a number of seconds")
    if asked.form not in _FORMS:
        raise BadInputError(f"answers of form {asked.form} are not known here: the nodes' versions of Ingle differ")
    step = SequenceStep(asked.sequence, asked.sequence_start, asked.sequence_end) if asked.sequence else None
    return CallRequest(
        asked.model,
        asked.version,
        AnswerForm(asked.form),
        asked.tensors,
        body,
        asked.outputs,
        asked.binary,
        asked.content_type,
        deadline_s=max(asked.deadline_s, 1e-6),
        priority=asked.priority,
        sequence=step,
        pin="local",
    )
