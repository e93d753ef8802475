"""What nodes ask each other to do with a version besides running it: warm it, fetch a copy, remove theirs.

Runs in the gateway's event loop. An order is answered once it is done or begun, or with the reason why not; whoever
gave it to a node that is lost is told so.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from appliance.core.errors import DeadlineError, IngleError, UnavailableError, UnsupportedError, error_from_code
from appliance.core.requests import Buffer
from federation.messages import Head, Order, Ordered

# The most orders of one peer that are carried out at once; each takes a task.
_MAX_UNDER_WAY = 64

Send = Callable[[str, Head, Sequence[Buffer]], bool]
Act = Callable[[str, Order], Awaitable[None]]

_log = logging.getLogger("ingle.mesh")


class Orders:
    """give() an order to a peer; `acts` carries out those that come, by their word, and is told whose they are."""

    def __init__(self, send: Send) -> None:
        self.acts: dict[str, Act] = {}
        self._send = send
        self._number = 0
        self._given: dict[int, tuple[str, asyncio.Future[None]]] = {}
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}

    async def give(self, node_id: str, order: Order, timeout_s: float) -> None:
        """Has the peer do it; `order.number` is filled in here. Raises what it answers, UnavailableError where it is
        lost, DeadlineError where it does not answer in time."""
        self._number += 1
        order.number = number = self._number
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given[number] = (node_id, future)
        try:
            if not self._send(node_id, order, ()):
                raise UnavailableError("there is no link to that node now")
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise DeadlineError(f"a node that was asked to {order.act} {order.model} did not answer in time") from None
        finally:
            self._given.pop(number, None)

    def on_ordered(self, node_id: str, ordered: Ordered) -> None:
        """A peer says what became of an order."""
        asked, future = self._given.get(ordered.number, ("", None))
        if asked != node_id or future is None or future.done():
            return
        if ordered.code:
            future.set_exception(error_from_code(ordered.code, ordered.sentence))
        else:
            future.set_result(None)

    def on_order(self, node_id: str, order: Order) -> None:
        """A peer wants something done."""
        tasks = self._tasks.setdefault(node_id, set())
        if len(tasks) >= _MAX_UNDER_WAY:
            self._send(node_id, Ordered(order.number, "busy", f"{_MAX_UNDER_WAY} orders are being carried out"), ())
            return
        task = asyncio.get_running_loop().create_task(self._carry_out(node_id, order))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _carry_out(self, node_id: str, order: Order) -> None:
        code = sentence = ""
        try:
            act = self.acts.get(order.act)
            if act is None:
                raise UnsupportedError(f"this version of Ingle does not know how to {order.act[:40]}")
            await act(node_id, order)
        except IngleError as error:
            code, sentence = error.code, error.sentence
        except Exception:
            _log.exception("a fault of ours in a peer's order")
            code, sentence = IngleError.code, "the node failed on this order, and has logged why"
        self._send(node_id, Ordered(order.number, code, sentence), ())

    def peer_gone(self, node_id: str) -> None:
        """It answers no more."""
        for asked, future in list(self._given.values()):
            if asked == node_id and not future.done():
                future.set_exception(UnavailableError("the node that was asked is lost"))

    def stop(self) -> None:
        for tasks in self._tasks.values():
            for task in tasks:
                task.cancel()
