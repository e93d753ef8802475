"""Waits for one call's outcome in the place of an asyncio.Future, and hands it on without a turn of the loop.

Runs in the gateway's event loop, one for each call that comes by a desk: from a front process or from a peer.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

from appliance.core.errors import IngleError
from appliance.core.frames import Answer

if TYPE_CHECKING:
    from appliance.gateway.dataplane import BegunCall


class Desk(Protocol):
    """Whoever took the call, and sends its outcome back."""

    def answered(self, waiter: "Waiter", answer: Answer, body: bytes, /) -> None: ...
    def failed(self, waiter: "Waiter", error: IngleError, /) -> None: ...


class Waiter:
    """`number` is the call's among those of `source` (a peer's node id; empty for a front), `size_bytes` what it takes
    up in the ledger of bytes held."""

    __slots__ = ("_desk", "_done", "begun", "number", "size_bytes", "source")

    def __init__(self, desk: Desk, number: int, *, source: str = "", size_bytes: int = 0) -> None:
        self._desk = desk
        self._done = False
        self.source = source
        self.number = number
        self.size_bytes = size_bytes
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
