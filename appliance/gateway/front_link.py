"""One end of the socket between a front process and the main process. Runs in the event loop of either.

Frames leave together once a turn, as a worker's do, and may ask for the same patience.
"""

from collections.abc import Callable, Sequence
from typing import Any

from appliance.core.requests import Buffer
from appliance.gateway.front_frames import FrontKind, frame
from appliance.workers.link import Link

OnFrame = Callable[[int, memoryview, bytes], None]


class FrontLink(Link):
    """`on_frame` is called with each frame's kind, head and body, until `on_any_frame` is set to another."""

    def __init__(self, on_made: Callable[["FrontLink"], None], on_frame: OnFrame, on_lost: Callable[[], None]) -> None:
        super().__init__(lambda _: on_made(self), lambda _head, _body: None, on_lost)
        self.on_any_frame = on_frame

    def _dispatch(self, kind: int, head: memoryview, body: bytes) -> None:
        self.on_any_frame(kind, head, body)

    def say(self, kind: FrontKind, head: Any, parts: Sequence[Buffer] = ()) -> None:
        """Queues one frame, which copies nothing until it leaves."""
        start = frame(kind, head, sum(map(len, parts)))
        self.send((start, *parts), 1)  # type: ignore[arg-type]  # bytes.join takes any buffer
