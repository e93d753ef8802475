"""Deploying over HTTP: the body is streamed to disk, whatever its size, and handed to the data plane as a file.

Runs in the gateway. Knows nothing of what is in the file; an upload that breaks off leaves nothing behind.
"""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import BinaryIO

from aiohttp import StreamReader, web

from appliance.core.errors import BadInputError, TooLargeError, UnsupportedError
from appliance.gateway.answers import DeployAnswer, deploy_answer
from appliance.gateway.asked import NEW_NAME, OWNER, asked_new_version, broken_bodies, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.deployment import Deployer
from appliance.gateway.http_body import refuse_encoding
from appliance.gateway.operations import Body, Operation, Reply
from appliance.gateway.replies import json_reply

_log = logging.getLogger("ingle.deploys")

WRITE_BYTES = 1024 * 1024

_BODY = Body(
    {"application/octet-stream": {"type": "string", "format": "binary"}},
    "an ONNX file, or a bundle: a ZIP with model.onnx, its external data files, manifest.toml and labels.txt",
)
_REPLIES = {
    200: Reply("The very same version was already there; nothing was to do.", DeployAnswer),
    201: Reply("Checked, stored and ready to be called.", DeployAnswer),
}
_SUMMARY = "Deploy a model from an ONNX file or a bundle"
_ERRORS = (409, 413, 415, 422, 503, 504)

OPERATIONS = (
    Operation(
        "deploy", "PUT", "/v1/models/{owner}/{name}", "models", _SUMMARY, _REPLIES, _ERRORS, (OWNER, NEW_NAME), _BODY
    ),
    Operation("deploy_local", "PUT", "/v1/models/{name}", "models", _SUMMARY, _REPLIES, _ERRORS, (NEW_NAME,), _BODY),
)


class Deploys:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane, deployer: Deployer) -> None:
        self._dataplane = dataplane
        self._deployer = deployer

    async def deploy(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name, version = asked_new_version(request)
        principal.require("deploy", name)
        refuse_encoding(request)
        if request.content_type.startswith("multipart/"):
            raise UnsupportedError(
                "a form is not taken: send the file itself as the body, as `curl --upload-file FILE` does"
            )
        incoming = await asyncio.to_thread(self._dataplane.catalogue.new_incoming)
        try:
            check_room(request.content_length, incoming)
            upload = incoming / "upload"
            await receive(request.content, upload)
            result = await self._deployer.deploy(upload, incoming, principal, name=str(name), version=version)
        finally:
            await asyncio.to_thread(self._dataplane.catalogue.discard, incoming)
        answer = deploy_answer(result.model, created=result.created, warnings=result.warnings)
        return json_reply(answer, 201 if result.created else 200)

    deploy_local = deploy


def check_room(size_bytes: int | None, folder: Path) -> None:
    """Raises TooLargeError where the upload says it is larger than what is free on the folder's disk."""
    free_bytes = shutil.disk_usage(folder).free
    if size_bytes is not None and size_bytes > free_bytes:
        raise TooLargeError(f"the upload has {size_bytes} bytes and this node's disk has {free_bytes} left")


async def receive(content: StreamReader, target: Path) -> None:
    """Write the whole stream to a new file, in pieces. Raises BadInputError where it breaks off, TooLargeError where
    the disk is full; what was written until then stays for the caller to remove."""
    file = await asyncio.to_thread(target.open, "xb")
    try:
        with broken_bodies():
            await _copy(content, file)
        await asyncio.to_thread(file.close)
    except BadInputError:
        _log.info("an upload broke off after %d bytes", file.tell())
        raise
    except OSError as error:
        raise TooLargeError(f"this node could not store the upload: {error.strerror}") from error
    finally:
        file.close()


async def _copy(content: StreamReader, file: BinaryIO) -> None:
    # The loop hands out what the socket had, some 64 KiB; a thread's hop for each would cost more than the write.
    pieces: list[bytes] = []
    held_bytes = 0
    while piece := await content.readany():
        pieces.append(piece)
        held_bytes += len(piece)
        if held_bytes >= WRITE_BYTES:
            await asyncio.to_thread(file.writelines, pieces)
            pieces, held_bytes = [], 0
    await asyncio.to_thread(file.writelines, pieces)
