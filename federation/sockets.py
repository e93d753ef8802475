"""ZeroMQ sockets that the event loop drives by hand: whole messages in, whole messages out, and a socket's events.

Runs in the gateway's event loop; ZeroMQ's own threads do the input, the output and the encryption. Knows no frames. A
socket's descriptor is edge-triggered: after add_reader, after each send or connect, and while anything can be read, the
socket must be looked at again, or it stays silent (zmq_getsockopt(3), ZMQ_FD). zmq.asyncio does the same at twice the
cost.
"""

import asyncio
import itertools
import logging
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import zmq

from appliance.core.requests import Buffer
from federation.frames import PART_FROM_BYTES

Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"

# So much is dealt with before the loop sees to others; what is said last may take longer, as far as its size lets it.
MESSAGES_A_TURN, TURN_S = 64, 0.01
_EVENT = struct.Struct("=HI")  # zmq_socket_monitor(3): the event and its value
# As plain numbers: zmq's own are enums, whose arithmetic is slow.
_NOBLOCK, _SNDMORE, _EVENTS, _POLLIN = int(zmq.NOBLOCK), int(zmq.SNDMORE), int(zmq.EVENTS), int(zmq.POLLIN)
_monitor_numbers = itertools.count(1)

_log = logging.getLogger("ingle.mesh")


class DrivenSocket:
    """One socket. `on_message` gets the frames of each message; it may close the socket."""

    def __init__(
        self,
        context: Context,
        kind: int,
        on_message: Callable[[list[zmq.Frame]], None],
    ) -> None:
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._look_is_due = False
        self._looking = False
        self.closed = False
        self.zmq: zmq.Socket[bytes] = context.socket(kind)
        self.zmq.copy_threshold = PART_FROM_BYTES
        self.zmq.set(zmq.LINGER, 0)

    def drive(self) -> None:
        """Begins to read. Call once, when the socket's options are set and it is bound or connected."""
        self._loop.add_reader(self.zmq.FD, self.look)
        self.look()

    def look(self) -> bool:
        """Reads what has come, so much in a turn of the loop; whatever is left is read in the next. Does nothing where
        it is called from within itself: messages keep their order. Whether all that had come has been dealt with."""
        self._look_is_due = False
        if self._looking:
            return False
        self._looking = True
        try:
            return self._read_some()
        finally:
            self._looking = False

    def _read_some(self) -> bool:
        ends_s = time.monotonic() + TURN_S
        for _ in range(MESSAGES_A_TURN):
            # To ask is also what makes the descriptor speak again.
            if self.closed or not cast(int, self.zmq.get(_EVENTS)) & _POLLIN:
                return True
            frames = [self.zmq.recv(_NOBLOCK, copy=False)]
            while frames[-1].more:
                frames.append(self.zmq.recv(_NOBLOCK, copy=False))
            try:
                self._on_message(frames)
            except Exception:  # the socket must be looked at on, or it is silent for good
                _log.exception("a message was not dealt with")
            if time.monotonic() >= ends_s:
                break
        self.look_soon()
        return False

    def look_soon(self) -> None:
        """Looks once more in the loop's next turn."""
        if not self._look_is_due and not self.closed:
            self._look_is_due = True
            self._loop.call_soon(self.look)

    def send(self, parts: Sequence[Buffer]) -> list[zmq.MessageTracker]:
        """Sends a message; large parts are handed over without a copy, and their trackers tell when they have left.

        Raises zmq.Again where there is no room or nobody to send to, zmq.ZMQError as the socket's kind does.
        """
        trackers: list[zmq.MessageTracker] = []
        last = len(parts) - 1
        for i, part in enumerate(parts):
            flags = _NOBLOCK if i == last else _NOBLOCK | _SNDMORE
            if len(part) < PART_FROM_BYTES:
                self.zmq.send(part, flags)
            else:
                trackers.append(self.zmq.send(part, flags, copy=False, track=True))
        self.look_soon()
        return trackers

    def close(self) -> None:
        """Ends it; what was not sent is dropped. May be called twice."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self.zmq.FD)
            self.zmq.close()


class Monitor:
    """The events of a socket, in their order: `on_event(event, value, endpoint)`."""

    def __init__(
        self,
        context: Context,
        watched: DrivenSocket,
        events: int,
        on_event: Callable[[int, int, str], None],
    ) -> None:
        endpoint = f"inproc://monitor-{next(_monitor_numbers)}"
        self._on_event = on_event
        self._watched = watched
        self._events = DrivenSocket(context, zmq.PAIR, self._read)
        # A monitor that is not read must never make ZeroMQ's own thread wait.
        self._events.zmq.set(zmq.RCVHWM, 0)
        watched.zmq.monitor(endpoint, events)
        self._events.zmq.connect(endpoint)
        self._events.drive()

    def _read(self, frames: list[zmq.Frame]) -> None:
        if len(frames) == 2:
            event, value = _EVENT.unpack(frames[0].bytes)
            self._on_event(event, value, frames[1].bytes.decode(errors="replace"))

    def look(self) -> bool:
        """Reads the events that are there, before the loop finds them. Whether all of them have been dealt with: not
        where it is called from within an event."""
        return self._events.look()

    def close(self) -> None:
        """No event comes any more. Call before the watched socket is closed."""
        if not self._events.closed:
            if not self._watched.closed:
                self._watched.zmq.disable_monitor()
            self._events.close()


class Unsent:
    """What of the large parts that were handed to ZeroMQ has not left yet: a peer that does not read holds no more
    than `max_bytes` of memory, or one message, be it larger. Small parts are bounded by their number (ZMQ_SNDHWM)."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sent: deque[tuple[zmq.MessageTracker, int]] = deque()
        self._bytes = 0

    def has_room(self, size_bytes: int) -> bool:
        """Whether a message of this size may be handed over now."""
        while self._sent and self._sent[0][0].done:
            self._bytes -= self._sent.popleft()[1]
        return not self._sent or self._bytes + size_bytes <= self._max_bytes

    def add(self, trackers: Sequence[zmq.MessageTracker], size_bytes: int) -> None:
        """A message was handed over."""
        if trackers:
            self._sent.append((trackers[-1], size_bytes))
            self._bytes += size_bytes
