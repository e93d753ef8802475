"""Backing a node up and restoring it over HTTP, both as streams of any size.

Runs in the gateway's event loop; files are read and written in threads, a piece at a time. What a backup is, backups.py
knows.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence

from aiohttp import StreamReader, web

from appliance.core.errors import IngleError, NotFoundError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.gateway.answers import RestoreAnswer
from appliance.gateway.asked import broken_bodies, who
from appliance.gateway.backups import Backups
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.http_body import refuse_encoding
from appliance.gateway.operations import Body, Operation, Reply
from appliance.gateway.replies import json_reply

SILENCE_S = 300.0  # a caller who neither sends nor takes anything for so long has gone
TAR = "application/x-tar"
_BYTES = {"type": "string", "format": "binary"}

_log = logging.getLogger("ingle.backups")

OPERATIONS = (
    Operation(
        "back_up",
        "GET",
        "/v1/backup",
        "node",
        "Take a backup: models, versions, aliases and keys (as hashes) of this moment, as a tar",
        {200: Reply("The backup. It is whole where it has the length that was said.", {TAR: _BYTES})},
        (429, 503),
    ),
    Operation(
        "restore",
        "POST",
        "/v1/restore",
        "node",
        "Put a backup in the place of all models and keys: all of it, or, where anything is wrong with it, nothing",
        {200: Reply("Restored.", RestoreAnswer)},
        (413, 415, 422, 429, 503),
        body=Body({TAR: _BYTES, "application/octet-stream": _BYTES}, "what a backup was answered with"),
    ),
)


class BackupsApi:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._backups = Backups(dataplane.catalogue, dataplane.keys)

    async def back_up(self, request: web.Request) -> web.StreamResponse:
        who(request, self._dataplane).require("admin", None)
        taking = self._backups.taken(self._dataplane.node_name)
        backup = await asyncio.to_thread(taking.__enter__)
        try:
            answer = web.StreamResponse(headers={"Content-Type": TAR})
            answer.content_length = backup.size_bytes
            await answer.prepare(request)
            if request.method != "HEAD":
                await _send(request, answer, backup.pieces)
            return answer
        finally:
            await asyncio.to_thread(taking.__exit__, None, None, None)

    async def restore(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        principal.require("admin", None)
        refuse_encoding(request)
        loop = asyncio.get_running_loop()

        def lift(brought: Sequence[tuple[ModelName, str]]) -> None:
            loop.call_soon_threadsafe(self._dataplane.deployer.lift, brought)

        restored = await asyncio.to_thread(self._backups.restore, _Uploaded(request.content), on_checked=lift)
        for model in restored.gone:
            self._dataplane.forget(model, self._successor(model))
        contents = restored.contents
        _log.warning(
            "all models and keys were replaced",
            extra={"backup_of": contents.node, "by": principal.label, "versions_gone": len(restored.gone)},
        )
        return json_reply(
            RestoreAnswer(
                node=contents.node,
                created_s=contents.created_s,
                models=self._dataplane.catalogue.held_count,
                artifacts=len(contents.artifacts()),
                replaced=len(restored.gone),
            )
        )

    def _successor(self, model: ModelVersion) -> ModelVersion | None:
        """The version of the same name and number that the backup brought."""
        try:
            return self._dataplane.catalogue.resolve(str(model.name), str(model.version))
        except NotFoundError:
            return None


async def _send(request: web.Request, answer: web.StreamResponse, pieces: Iterator[bytes]) -> None:
    """Sends the pieces. Where one fails it hangs up before the length that was said: that is all that can be told."""
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            async with asyncio.timeout(SILENCE_S):
                await answer.write(piece)
        await answer.write_eof()
    except (IngleError, OSError, TimeoutError) as error:
        _log.error("a backup broke off: %s", error)
        if request.transport is not None:
            request.transport.abort()


class _Uploaded:
    """A request's body as a thread reads it, while the loop goes on."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()

    def read(self, size: int, /) -> bytes:
        return asyncio.run_coroutine_threadsafe(self._read(size), self._loop).result()

    async def _read(self, size: int) -> bytes:
        with broken_bodies():
            async with asyncio.timeout(SILENCE_S):
                return await self._content.read(size)
