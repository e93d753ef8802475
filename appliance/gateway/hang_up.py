"""Callers that hang up: the call that they wait for the long way through aiohttp is dropped, so that it is not run for
nobody.

Runs in the gateway. Only calls are dropped: a deploy or a change goes on to its end once its request is complete.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.web_protocol import RequestHandler


class DroppingHandler(RequestHandler):
    """aiohttp's connection, which ends the call that it waits for when it is lost."""

    __slots__ = ("call",)

    call: asyncio.Task[None] | None

    def connection_lost(self, exc: BaseException | None) -> None:
        call = getattr(self, "call", None)
        super().connection_lost(exc)
        if call is not None:
            call.cancel()


@contextmanager
def dropped_with_caller(request: web.Request) -> Iterator[None]:
    """Around a call: it is cancelled when the caller hangs up."""
    connection = request.protocol
    assert isinstance(connection, DroppingHandler)
    connection.call = asyncio.current_task()
    try:
        yield
    finally:
        connection.call = None
