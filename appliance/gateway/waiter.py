"""Waits for one call's outcome in the place of an asyncio.Future, and hands it on without a turn of the loop.

Runs in the gateway's event loop, one for each call of a front that waits for no task, of a front process and of a peer.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from appliance.core.errors import IngleError
from appliance.core.frames import Answer

if TYPE_CHECKING:
    from appliance.gateway.dataplane import BegunCall


Call_contra = TypeVar("Call_contra", contravariant=True)


class Desk(Protocol[Call_contra]):
    """Whoever took the call, and sends its outcome back."""

    def answered(self, waiter: Call_contra, answer: Answer, body: bytes, /) -> None: ...
    def failed(self, waiter: Call_contra, error: IngleError, /) -> None: ...


class Waiter:
    """`begun` is what the data plane made of the call; None until it was admitted."""

    __slots__ = ("_desk", "_done", "begun")

    def __init__(self, desk: Desk[Self]) -> None:
        self._desk: Desk[Any] = desk
        self._done = False
        self.begun: BegunCall | None = None

    def done(self) -> bool:
        return self._done

    def set_result(self, result: tuple[Answer, bytes], /) -> None:
        self._done = True
        self._desk.answered(self, *result)

    def set_exception(self, exception: IngleError, /) -> None:
        self._done = True
        # Not at once: this may come while the call's beginning is still on the stack.
        asyncio.get_running_loop().call_soon(self._desk.failed, self, exception)

    def gone(self) -> None:
        """Nobody waits any more: the pool passes it over."""
        self._done = True


class DeskWaiter(Waiter):
    """Of a call that comes by a desk, from a front process or from a peer. `number` is the call's among those of
    `source` (a peer's node id; empty for a front), `size_bytes` what it takes up in the ledger of bytes held."""

    __slots__ = ("number", "size_bytes", "source")

    def __init__(self, desk: Desk[Self], number: int, *, source: str = "", size_bytes: int = 0) -> None:
        super().__init__(desk)
        self.source = source
        self.number = number
        self.size_bytes = size_bytes
