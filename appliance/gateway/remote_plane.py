"""A front process's way to the data plane: each call is a frame to the main process, each answer a frame back.

Runs in a front process's event loop. It decides nothing: who calls, whether they may, what runs where and what becomes
of a call is said by the main process, which is the only one that knows.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from appliance.core.errors import BadInputError, IngleError, UnavailableError
from appliance.core.frames import TensorHead
from appliance.core.requests import Buffer, CallAnswer, CallRequest
from appliance.gateway.front_frames import (
    REGION_FROM_BYTES,
    FrontKind,
    Number,
    Who,
    call_start,
    decode_number,
    decode_refusal,
    decode_reply,
    read_refusal,
    read_reply,
)
from appliance.gateway.front_link import FrontLink
from appliance.gateway.held import HeldBytes
from appliance.workers.region import SharedRegion

Span = tuple[int, int]
OnOutcome = Callable[[Any], None]  # of a CallAnswer or an IngleError
_KNOWN_S = 60.0
_MAX_KNOWN = 1024


class RemotePlane:
    """Calls under way in the main process, and the memory that they lie in until it has done with them."""

    def __init__(self, link: FrontLink, region: SharedRegion, node_name: str, max_held_bytes: int) -> None:
        self.node_name = node_name
        self.held = HeldBytes(max_held_bytes)
        self.region = region
        self._link = link
        self._number = 0
        self._waiting: dict[int, OnOutcome] = {}
        self._spans: dict[int, list[Span]] = {}
        self._known: dict[str | None, float] = {}  # keys, and until when they are taken to be some
        self._idle = asyncio.Event()
        self._idle.set()

    # Who.

    def principal(self, authorization: str | None) -> None:
        """Nothing: who calls is found out by the main process, for every call."""

    def knows(self, authorization: str | None) -> bool:
        """Whether this was a caller's key a moment ago, so that its bodies are worth waiting for."""
        return self._known.get(authorization, 0.0) > time.monotonic()

    def who(self, authorization: str | None, on_outcome: Callable[[IngleError | None], None]) -> int:
        """Asks whether this is a caller's key; `on_outcome` is told what is wrong with it, or None."""
        self._number = number = self._number + 1

        def outcome(error: CallAnswer | IngleError | None) -> None:
            if error is None:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[authorization] = time.monotonic() + _KNOWN_S
            on_outcome(error)  # type: ignore[arg-type]  # no call was made, so that it has no answer

        self._waiting[number] = outcome
        self._link.say(FrontKind.WHO, Who(number, authorization))
        return number

    # Calls.

    def begin(
        self, request: CallRequest, authorization: str | None, on_outcome: OnOutcome, body: Span | None = None
    ) -> int:
        """Sends a call and tells its number; `on_outcome` is called once, in a later turn. `body`: the place in the
        shared memory that its parts may lie in, which is given back when the call is closed. Raises BadInputError
        where a frame cannot carry the call; the place is the caller's again then."""
        self._number = number = self._number + 1
        patience_turns, request.patience_turns = request.patience_turns, 1
        spans: list[Span] = []
        request.tensors, parts = self._placed(request.tensors, request.parts, spans)  # type: ignore[arg-type]
        try:
            start = call_start(number, authorization, request, sum(map(len, parts)))
        except BadInputError:
            for span in spans:
                self.region.give_back(*span)
            raise
        self._waiting[number] = on_outcome
        self._spans[number] = spans if body is None else [*spans, body]
        self._idle.clear()
        self._link.send((start, *parts), patience_turns)  # type: ignore[arg-type]  # bytes.join takes any buffer
        return number

    def _placed(
        self, tensors: list[TensorHead], parts: Sequence[Buffer], spans: list[Span]
    ) -> tuple[list[TensorHead], list[Buffer]]:
        """Large parts in shared memory, the others to be sent."""
        heads, inline = list(tensors), []
        for index, part in enumerate(parts):
            size = len(part)
            start = None
            if size >= REGION_FROM_BYTES:
                start = self.region.start_of(part) if isinstance(part, memoryview) else None
                if start is None and (start := self.region.put(part)) is not None:
                    spans.append((start, size))
            if start is None:
                inline.append(part)
            else:
                head = heads[index]
                heads[index] = TensorHead(head.name, head.dtype, head.shape, head.encoding, size, start)
        return heads, inline

    def abandon(self, number: int) -> None:
        """Nobody waits for this call any more."""
        if self._waiting.pop(number, None) is not None:
            self._link.say(FrontKind.GONE, Number(number))

    def ask(self, request: CallRequest, authorization: str | None) -> "asyncio.Future[CallAnswer]":
        """Begins a call; the future gives its answer or an IngleError, and a future that is cancelled ends the call.
        Raises BadInputError as begin() does."""
        future: asyncio.Future[CallAnswer] = asyncio.get_running_loop().create_future()
        number = self.begin(request, authorization, partial(_settle, future))
        future.add_done_callback(lambda _: self.abandon(number))
        return future

    def on_frame(self, kind: int, head: memoryview, body: bytes) -> None:
        """REPLY, REFUSAL, RELEASED or KNOWN."""
        outcome: CallAnswer | IngleError | None = None
        if kind == FrontKind.REPLY:
            reply = decode_reply(head)
            number, outcome = reply.number, read_reply(reply, body)
        elif kind == FrontKind.REFUSAL:
            refusal = decode_refusal(head)
            number, outcome = refusal.number, read_refusal(refusal)
        else:
            number = decode_number(head).number
        for span in self._spans.pop(number, ()):
            self.region.give_back(*span)
        if not self._spans:
            self._idle.set()
        on_outcome = self._waiting.pop(number, None)
        if on_outcome is not None and kind != FrontKind.RELEASED:
            on_outcome(outcome)

    def lost(self) -> None:
        """The main process has gone: nothing will be answered any more."""
        waiting, self._waiting = self._waiting, {}
        for on_outcome in waiting.values():
            on_outcome(UnavailableError("the node has ended: call another, or this one again later"))

    async def idle(self) -> None:
        """Returns when no call is under way."""
        await self._idle.wait()


def _settle(future: "asyncio.Future[CallAnswer]", outcome: CallAnswer | IngleError) -> None:
    if future.done():
        return
    if isinstance(outcome, IngleError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
