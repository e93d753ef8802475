"""The main process's end of one front: takes its calls to the data plane and sends what becomes of them.

Runs in the gateway's event loop. A call of a front is a call like any other: the same keys, bounds, counters and
deadlines. Only its tensors may lie in memory that the front shares.
"""

import logging
import mmap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from appliance.core.errors import BadInputError, IngleError
from appliance.core.frames import Answer, TensorHead
from appliance.core.requests import Buffer
from appliance.gateway.front_frames import (
    FrontKind,
    Number,
    decode_call,
    decode_number,
    decode_who,
    read_call,
    write_refusal,
    write_reply,
)
from appliance.gateway.front_link import FrontLink
from appliance.gateway.waiter import DeskWaiter

if TYPE_CHECKING:
    from appliance.gateway.dataplane import DataPlane

_log = logging.getLogger("ingle.fronts")


class FrontDesk:
    """Calls of one front that are under way."""

    def __init__(self, dataplane: "DataPlane", link: FrontLink, region_fd: int, region_bytes: int) -> None:
        self._dataplane = dataplane
        self._link = link
        self._region = memoryview(mmap.mmap(region_fd, region_bytes, prot=mmap.PROT_READ))
        self._calls: dict[int, DeskWaiter] = {}

    def on_frame(self, kind: int, head: memoryview, body: bytes) -> None:
        """CALL, GONE or WHO."""
        if kind == FrontKind.CALL:
            self._begin(head, body)
        elif kind == FrontKind.GONE:
            number = decode_number(head).number
            if (waiter := self._calls.pop(number, None)) is not None:
                self._drop(waiter)
                self._link.say(FrontKind.RELEASED, Number(number))

        elif kind == FrontKind.WHO:
            who = decode_who(head)
            try:
                self._dataplane.principal(who.authorization)
            except IngleError as error:
                self.refuse(who.number, error)
            else:
                self._link.say(FrontKind.KNOWN, Number(who.number))

    def _begin(self, head: memoryview, body: bytes) -> None:
        call = decode_call(head)
        number = call.number
        try:
            request = read_call(call, partial(self._parts, body))
            principal = self._dataplane.principal(call.authorization)
            size_bytes = sum(map(len, request.parts))
            self._dataplane.held.take(size_bytes)
            waiter = self._calls[number] = DeskWaiter(self, number, size_bytes=size_bytes)
            waiter.begun = self._dataplane.begin(request, principal, waiter)
        except IngleError as error:
            self.refuse(number, error)
        except Exception as error:
            self._fault(number, error)

    def _parts(self, body: bytes, tensors: list[TensorHead]) -> Sequence[Buffer]:
        """The tensors' buffers; a head that said where in shared memory its buffer is says so no more."""
        parts: list[Buffer] = []
        position = 0
        whole = memoryview(body)
        for index, head in enumerate(tensors):
            source, start = (self._region, head.offset) if head.offset >= 0 else (whole, position)
            part = source[start : start + head.size_bytes]
            if len(part) != head.size_bytes:
                raise BadInputError(f"a front announced {head.size_bytes} bytes, but {len(part)} are there")
            if head.offset >= 0:
                tensors[index] = TensorHead(head.name, head.dtype, head.shape, head.encoding, head.size_bytes)
            else:
                position += head.size_bytes
            parts.append(part)
        return parts

    def answered(self, waiter: DeskWaiter, answer: Answer, body: bytes) -> None:
        """The worker's answer has come; it leaves with this turn's others."""
        assert waiter.begun is not None
        number = waiter.number
        try:
            done = self._dataplane.finished(waiter.begun, answer, body)
        except Exception as error:
            self._fault(number, error)
            return
        self._forget(number)
        self._link.say(FrontKind.REPLY, write_reply(number, done), (done.body,))

    def failed(self, waiter: DeskWaiter, error: IngleError) -> None:
        if waiter.begun is None:
            return  # it was not admitted, and who asked was told
        self._dataplane.failed(waiter.begun, error)
        if self._calls.get(waiter.number) is waiter:  # else its caller has gone in the meantime
            self.refuse(waiter.number, error)

    def refuse(self, number: int, error: IngleError) -> None:
        """The call ends in this error."""
        self._forget(number)
        self._link.say(FrontKind.REFUSAL, write_refusal(number, error))

    def _fault(self, number: int, error: Exception) -> None:
        _log.error("a fault of ours in a call", exc_info=error)
        self.refuse(number, IngleError("the node failed on this request, and has logged why"))

    def _forget(self, number: int) -> None:
        if (waiter := self._calls.pop(number, None)) is not None:
            self._dataplane.held.give_back(waiter.size_bytes)

    def _drop(self, waiter: DeskWaiter) -> None:
        """Nobody waits for it any more."""
        self._dataplane.held.give_back(waiter.size_bytes)
        if not waiter.done() and waiter.begun is not None:
            waiter.gone()
            self._dataplane.dropped(waiter.begun)

    def close(self) -> None:
        """The front has gone, and with it whoever waited."""
        calls, self._calls = self._calls, {}
        for waiter in calls.values():
            self._drop(waiter)
