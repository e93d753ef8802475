"""What one ZeroMQ connection has under way, and what of it is too much. Pure; runs in the gateway's event loop.

A connection's memory in this process is bounded by what is said here: the calls it waits for, their bytes, and the
answers that it has not read yet.
"""

from collections import deque
from typing import Protocol

from appliance.core.errors import BadInputError, BusyError

MAX_CALLS = 1024
RETRY_AFTER_S = 0.1


class Sent(Protocol):
    """A message on its way; `done` once ZeroMQ has written it to the network or dropped it."""

    @property
    def done(self) -> bool: ...


class Waiting(Protocol):
    """A call or query of this connection."""

    def abandon(self) -> None:
        """The caller has gone: what waits for it is dropped."""


class Peer:
    """One connection. `max_bytes` bounds its calls' bytes, and apart from them its unread answers'; a single one may
    always be under way."""

    def __init__(self, max_bytes: int) -> None:
        self.identity = b""  # known from its first message on
        self.messages = 0  # that came whole
        self._max_bytes = max_bytes
        self._waiting: dict[int, tuple[Waiting, int]] = {}
        self._asked_bytes = 0
        self._unread: deque[tuple[Sent, int]] = deque()
        self._unread_bytes = 0

    def take(self, number: int, waiting: Waiting, size_bytes: int) -> None:
        """Takes a call in. Raises BusyError past a bound, BadInputError where its number is still in use."""
        if number in self._waiting:
            raise BadInputError(f"call {number} of this connection is still under way: each needs a number of its own")
        if len(self._waiting) >= MAX_CALLS:
            raise BusyError(
                f"this connection waits for {MAX_CALLS} calls already: read answers before sending more",
                retry_after_s=RETRY_AFTER_S,
            )
        if self._waiting and self._asked_bytes + size_bytes > self._max_bytes:
            raise BusyError(
                f"this connection has {self._asked_bytes} bytes of calls under way, and at most {self._max_bytes} are "
                "taken: read answers before sending more",
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting[number] = waiting, size_bytes
        self._asked_bytes += size_bytes

    def leave(self, number: int) -> None:
        """The call has its answer."""
        self._asked_bytes -= self._waiting.pop(number)[1]

    def may_send(self, size_bytes: int) -> bool:
        """Whether an answer of this size may be added to those that the peer has not read."""
        while self._unread and self._unread[0][0].done:
            self._unread_bytes -= self._unread.popleft()[1]
        return not self._unread or self._unread_bytes + size_bytes <= self._max_bytes

    def sent(self, message: Sent, size_bytes: int) -> None:
        """A large answer is on its way; small ones are bounded by their number."""
        self._unread.append((message, size_bytes))
        self._unread_bytes += size_bytes

    def gone(self) -> None:
        """Abandons all that the connection waited for."""
        waiting, self._waiting = self._waiting, {}
        for one, _ in waiting.values():
            one.abandon()
