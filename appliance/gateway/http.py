"""The HTTP front: one application for V2, plain calls and management, and one way to say what went wrong.

Runs in the gateway's event loop. Owns the listening socket, the bounds of a request and the form of errors; the
handlers are in v2_rest.py and management.py.
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from appliance.core.addresses import Address
from appliance.core.errors import IngleError
from appliance.core.machine import connections_allowed, descriptor_limit
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.fast_calls import FastFront
from appliance.gateway.hang_up import DroppingHandler
from appliance.gateway.held import HeldBytes
from appliance.gateway.http_answer import error_content, error_headers
from appliance.gateway.http_body import HELD, HeldBody, too_large_words
from appliance.gateway.http_head import MAX_HEADERS
from appliance.gateway.http_listener import KEEPALIVE_S, listen, look
from appliance.gateway.introduction import Introducing
from appliance.gateway.management import add_routes
from appliance.gateway.v2_rest import V2Rest
from appliance.security.tls import Tls

MAX_LINE_BYTES = 16 * 1024  # of the request's first line, and of each header

_log = logging.getLogger("ingle.http")


def error_response(
    status: int, sentence: str, code: str, *, call: str = "", node: str = "", retry_after_s: float | None = None
) -> web.Response:
    """An error in the form that all HTTP clients get: V2's member `error`, and our word for it in `code`."""
    return web.Response(
        status=status,
        body=error_content(sentence, code),
        content_type="application/json",
        headers=error_headers(status, call=call, node=node, retry_after_s=retry_after_s),
    )


def _errors(node: str, held: HeldBytes) -> Any:
    """The middleware that turns whatever a handler raises into the one form, and keeps account of its body."""

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        body = request[HELD] = HeldBody(held)
        try:
            return await handler(request)
        except IngleError as error:
            return error_response(
                error.status,
                error.sentence,
                error.code,
                call=error.call,
                node=node,
                retry_after_s=error.retry_after_s,
            )
        except web.HTTPException as error:
            return _from_aiohttp(request, error)
        except web.RequestPayloadError:
            return error_response(400, "the body broke off, or its chunks are malformed", "bad_input")
        except ConnectionError:
            raise  # the caller has gone: there is nobody to tell
        except Exception:
            _log.exception("a fault of ours in %s %s", request.method, request.path)
            return error_response(500, "the node failed on this request, and has logged why", "internal")
        finally:
            body.give_back()

    return answer_errors


_WORDS = {400: "bad_input", 404: "not_found", 405: "method_not_allowed", 411: "bad_input", 413: "too_large"}


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """What aiohttp itself refuses, in our form."""
    if error.status < 400:
        return error
    sentences = {
        404: f"there is nothing at {request.path[:200]}: GET /openapi.json lists what there is",
        405: f"{request.method} is not for {request.path[:200]}: it takes {error.headers.get('Allow', 'others')}",
    }
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        sentences[413] = too_large_words(request.client_max_size)
    response = error_response(
        error.status, sentences.get(error.status, error.text or error.reason), _WORDS.get(error.status, "refused")
    )
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


class _JsonRequestHandler(DroppingHandler):
    """aiohttp's connection, but that what cannot even be parsed is refused in our form, not as a page of text."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("a fault of ours in %s", request.path, exc_info=exc)
            sentence, code = "the node failed on this request, and has logged why", "internal"
        else:
            reason = " ".join((message or (str(exc) if exc else "it is not HTTP")).split())
            sentence, code = f"the request cannot be read: {reason[:400]}", "bad_input"
            if isinstance(exc, LineTooLong) or "Too many headers" in reason:
                status, code = 431, "too_large"
                taken = f"{MAX_HEADERS} headers of {MAX_LINE_BYTES} bytes at most are taken"
                sentence = f"the request's head is too large: {taken}"
        if request.writer.output_size:
            raise ConnectionError("the answer had begun when it failed")
        response = error_response(status, sentence, code)
        response.force_close()
        return response


class _JsonServer(web.Server):
    def __call__(self) -> RequestHandler:
        return _JsonRequestHandler(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    """An AppRunner whose server makes our connections: aiohttp has no other place to say so."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _JsonServer
        return server


class HttpFront:
    """start() answers the port; stop() closes the listener and then the connections."""

    def __init__(
        self, dataplane: DataPlane, address: Address, tls: Tls | None = None, *, private_path: str = ""
    ) -> None:
        """`private_path`: listen not on the address, but on a Unix socket there, to front processes that do."""
        self._private_path = private_path
        self._dataplane = dataplane
        self._tls = tls
        self._address = address
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._fast: FastFront
        self._sweep: asyncio.Task[None]

    async def start(self) -> int:
        """Listens. Raises OSError where the address cannot be had."""
        app = web.Application(
            middlewares=[_errors(self._dataplane.node_name, self._dataplane.held)],
            client_max_size=self._dataplane.settings.max_body_bytes,
        )
        V2Rest(self._dataplane).add_routes(app)
        add_routes(app, self._dataplane, self._dataplane.deployer)
        self._runner = _Runner(
            app,
            access_log=None,
            handle_signals=False,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        make_handler = self._runner.server
        assert make_handler is not None
        settings = self._dataplane.settings
        self._fast = FastFront(
            self._dataplane,
            make_handler,
            settings.max_body_bytes,
            min(settings.max_connections, connections_allowed(descriptor_limit())),
        )
        loop = asyncio.get_running_loop()
        if self._private_path:
            encrypted = self._tls is not None
            self._listener = await loop.create_unix_server(
                lambda: Introducing(self._fast, encrypted=encrypted), self._private_path, backlog=1024
            )
            self._sweep = loop.create_task(look(self._fast))
            return 0
        self._listener = await listen(self._fast, self._address, self._tls)
        self._sweep = loop.create_task(look(self._fast))
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._sweep.cancel()
            self._fast.close()
        if self._runner is not None:
            await self._runner.cleanup()
