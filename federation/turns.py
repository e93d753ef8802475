"""What is done once for all that one turn of the event loop brings, and at once where a turn brings one thing alone.

Runs in the gateway's event loop. To wait for a turn's end is worth it only where more comes in it: whether it will is
guessed from the turn before. A caller who waits for each answer is not kept waiting, and many callers share the work.
"""

import asyncio
from collections.abc import Callable


class AtTurnsEnd:
    """one_more() says that there is something for `what` to do, which is called for all of it: when the turn ends, or
    at once for the first of a turn after one that brought no more. It may be called with nothing left to do."""

    __slots__ = ("_brought", "_end", "_loop", "_was_alone", "_what")

    def __init__(self, what: Callable[[], None]) -> None:
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Handle | None = None
        self._brought = 0
        self._was_alone = True

    @property
    def expects_more(self) -> bool:
        """Whether what comes now is likely not to be the only one of its turn."""
        return self._end is not None or not self._was_alone

    def one_more(self) -> None:
        self._brought += 1
        if self._end is None:
            self._end = self._loop.call_soon(self._turn_ends)
            if self._was_alone:
                self._what()

    def _turn_ends(self) -> None:
        self._end = None
        self._was_alone = self._brought == 1
        self._brought = 0
        self._what()
