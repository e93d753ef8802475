"""Answers that the link to a peer had no room for: kept, and sent when it has.

Runs in the gateway's event loop, under mesh_desk.py. The bytes that are kept count among those that the node holds; of
faults, which are small, it keeps so many.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from appliance.core.requests import Buffer
from appliance.gateway.held import HeldBytes
from federation.messages import Head, MeshFault, MeshReply

_AGAIN_S = 0.01
_PATIENCE_S = 10.0  # with a link that takes nothing; a peer that reads nothing is cut off long before
MAX_FAULTS = 10_000  # what is beyond is not answered: a peer that reads nothing and asks on is no caller

Send = Callable[[str, Head, Sequence[Buffer]], bool]


class _Late(NamedTuple):
    node_id: str
    answer: MeshReply | MeshFault
    body: bytes
    until_s: float  # on time.monotonic()'s clock


class LateAnswers:
    """`send` says something to a peer, and whether that was taken."""

    def __init__(self, send: Send, held: HeldBytes) -> None:
        self._send = send
        self._held = held
        self._kept: list[_Late] = []
        self._faults = 0  # of those
        self._again: asyncio.TimerHandle | None = None

    def keep(self, node_id: str, reply: MeshReply, body: bytes) -> None:
        """Raises UnavailableError where the node holds too much already."""
        self._held.take(len(body))
        reply.model_state = reply.load = None  # they will not be so any more
        self._kept.append(_Late(node_id, reply, body, time.monotonic() + _PATIENCE_S))
        self._look_again()

    def keep_fault(self, node_id: str, fault: MeshFault) -> None:
        """Its caller would else wait until his deadline."""
        if self._faults < MAX_FAULTS:
            self._faults += 1
            fault.model_state = None
            self._kept.append(_Late(node_id, fault, b"", time.monotonic() + _PATIENCE_S))
            self._look_again()

    def peer_gone(self, node_id: str) -> None:
        """Nobody there waits any more."""
        self._let_go([late for late in self._kept if late.node_id != node_id])

    def _look_again(self) -> None:
        if self._again is None and self._kept:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_S, self._send_kept)

    def _send_kept(self) -> None:
        self._again = None
        now_s, full, left = time.monotonic(), set[str](), list[_Late]()
        for late in self._kept:
            if late.node_id in full or not self._send(late.node_id, late.answer, (late.body,)):
                full.add(late.node_id)
                if now_s < late.until_s:
                    left.append(late)
        self._let_go(left)
        self._look_again()

    def _let_go(self, left: list[_Late]) -> None:
        """All but these."""
        kept, self._kept = self._kept, left
        self._held.give_back(sum(len(late.body) for late in kept) - sum(len(late.body) for late in left))
        self._faults = sum(isinstance(late.answer, MeshFault) for late in left)
