"""Whether what is said on a stream for calls is heard at its other end: asked while anything is said on it, never else.

Runs in the gateway's event loop, under streams.py. Something on the way may take a stream's bytes, and acknowledge
them, and deliver nothing, or forget that one connection, while the link lives. So behind what is said a PROBE is said
on the stream, and answered on the link, as every PROBE is. Each end asks about what it says itself.

A peer that is slow, or stands still, answers on the link as late as about the stream: the stream is lost only where two
questions on the link, one after the other and later than that on the stream, were answered before it.
"""

import asyncio
from collections.abc import Callable
from typing import Literal

from federation.frames import message_parts
from federation.messages import Probe
from federation.sealed_stream import SealedStream

_LOOK_EVERY_S = 0.25
# From when all of a question was acknowledged: it waits, at most, for whoever reads it.
_PATIENCE_S = 0.75
# From when any of it was acknowledged last: TCP sends anew after 0.2, 0.6 and 1.4 s what a bad way loses.
_UNTAKEN_PATIENCE_S = 1.5
_ANSWERS_ON_LINK = 2

Step = Literal["wait", "ask on the link", "give up"]


def next_step(unheard_s: float, *, taken: bool, answers: int, is_asking: bool) -> Step:
    """What to do about a question on the stream that is not answered. `taken`: the other end's system, or whatever is
    in its place, has acknowledged all of it. `unheard_s`: since any of it was acknowledged last. `answers`: how many
    questions that were asked on the link since were answered; `is_asking`: another is on its way."""
    if answers >= _ANSWERS_ON_LINK:
        return "give up"
    is_late = unheard_s >= (_PATIENCE_S if taken else _UNTAKEN_PATIENCE_S)
    return "ask on the link" if is_late and not is_asking else "wait"


class StreamWatch:
    """Of one stream that has begun. said() follows what was said on it, answered() takes what PROBED says on its link.
    It ends the stream when it finds that it is lost, and `is_lost` then. `heard_s`: by the loop's time, when the other
    end last proved to hear it."""

    def __init__(self, stream: SealedStream, number: Callable[[], int], ask_on_link: Callable[[Probe], bool]) -> None:
        """`number` gives a number that no other PROBE to this peer has."""
        self._stream = stream
        self._number = number
        self._ask_on_link = ask_on_link
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_news = False  # something was said that no question follows yet
        self._asked = self._asked_on_link = 0  # the numbers of what is not answered; 0: nothing
        self._answers = 0
        self._end_bytes = self._taken_bytes = 0  # up to the question's end, and how much of that was acknowledged
        self._moved_s = 0.0
        self.heard_s = self._loop.time()
        self.is_lost = False

    def said(self) -> None:
        """Something was said on the stream."""
        self._is_news = True
        if self._timer is None:
            self._look()

    def answered(self, number: int) -> None:
        """PROBED came on the link; of other questions too."""
        if number == self._asked:
            self._asked = self._asked_on_link = 0
            self.heard_s = self._loop.time()
        elif number == self._asked_on_link:
            self._asked_on_link = 0
            self._answers += 1

    def close(self) -> None:
        """The stream has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._asked and not self._is_news:
            return
        if self._asked:
            self._judge()
        else:
            self._ask()
        if not self.is_lost:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def _ask(self) -> None:
        number = self._number()
        if self._stream.send(message_parts(Probe(number))):
            self._is_news, self._asked = False, number
            self._end_bytes, self._taken_bytes = self._stream.said_bytes, 0
            self._moves(self._stream.taken_bytes())

    def _judge(self) -> None:
        taken_bytes = min(self._end_bytes, self._stream.taken_bytes())
        if taken_bytes > self._taken_bytes:
            self._moves(taken_bytes)
        taken = taken_bytes >= self._end_bytes
        unheard_s = self._loop.time() - self._moved_s
        step = next_step(unheard_s, taken=taken, answers=self._answers, is_asking=self._asked_on_link > 0)
        if step == "ask on the link":
            number = self._number()
            self._asked_on_link = number if self._ask_on_link(Probe(number)) else 0
        elif step == "give up":
            self.is_lost = True
            self._stream.end("what is said on it is not heard, while the link is")

    def _moves(self, taken_bytes: int) -> None:
        """Some more was acknowledged: from now on it is to be heard."""
        self._taken_bytes, self._moved_s = taken_bytes, self._loop.time()
        self._answers = self._asked_on_link = 0
