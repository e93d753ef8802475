"""Deploying over HTTP: the body is streamed to disk, whatever its size, and handed to the data plane as a file.

Runs in the gateway. Knows nothing of what is in the file; an upload that breaks off leaves nothing behind.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from aiohttp import StreamReader, web

from appliance.core.copy_wish import CopyWish
from appliance.core.errors import BadInputError, TooLargeError, UnavailableError, UnsupportedError
from appliance.core.names import ModelName
from appliance.gateway import copies_api, trial
from appliance.gateway.answers import DeployAnswer, deploy_answer
from appliance.gateway.asked import NEW_NAME, OWNER, asked_new_version, broken_bodies, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.deployment import Deployer
from appliance.gateway.http_body import refuse_encoding
from appliance.gateway.operations import Body, Operation, Parameter, Reply
from appliance.gateway.replies import json_reply
from appliance.gateway.trial import Trial, asked_trial
from appliance.security.scopes import Principal

_log = logging.getLogger("ingle.deploys")

WRITE_BYTES = 1024 * 1024
KEPT_FREE_BYTES = 64 * 1024 * 1024  # of the disk, which uploads leave to the catalogue
MORE_BYTES = 16 * 1024 * 1024  # an upload that does not say how long it is has room made for so much at a time

MakeRoom = Callable[[int], Awaitable[None]]

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

_SIGNATURE = Parameter(
    "signature",
    "query",
    {"type": "string", "enum": ["required"]},
    "`required`: refuse what is not signed by a key that this node trusts",
)

OPERATIONS = (
    Operation(
        "deploy",
        "PUT",
        "/v1/models/{owner}/{name}",
        "models",
        _SUMMARY,
        _REPLIES,
        _ERRORS,
        (OWNER, NEW_NAME, _SIGNATURE, *trial.PARAMETERS, *copies_api.PARAMETERS),
        _BODY,
    ),
    Operation(
        "deploy_local",
        "PUT",
        "/v1/models/{name}",
        "models",
        _SUMMARY,
        _REPLIES,
        _ERRORS,
        (NEW_NAME, _SIGNATURE, *trial.PARAMETERS, *copies_api.PARAMETERS),
        _BODY,
    ),
)


class Deploys:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane, deployer: Deployer) -> None:
        self._dataplane = dataplane
        self._deployer = deployer
        self._uploads = 0

    async def deploy(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name, version = asked_new_version(request)
        principal.require("deploy", name)
        asked = asked_trial(request)
        wish = copies_api.asked_wish(request)
        refuse_encoding(request)
        if request.content_type.startswith("multipart/"):
            raise UnsupportedError(
                "a form is not taken: send the file itself as the body, as `curl --upload-file FILE` does"
            )
        most = self._dataplane.settings.max_uploads
        if self._uploads >= most:
            raise UnavailableError(
                f"{most} models are being uploaded already: come back a little later", retry_after_s=5.0
            )
        self._uploads += 1
        try:
            return await self._take(request, principal, name, version, asked, wish)
        finally:
            self._uploads -= 1

    async def _take(
        self,
        request: web.Request,
        principal: Principal,
        name: ModelName,
        version: str,
        asked: Trial,
        wish: CopyWish,
    ) -> web.Response:
        incoming = await asyncio.to_thread(self._dataplane.catalogue.new_incoming)
        try:
            await self._deployer.make_room(request.content_length or 0)
            check_room(request.content_length, incoming)
            upload = incoming / "upload"
            await receive(request.content, upload, self._deployer.make_room)
            result = await self._deployer.deploy(
                upload,
                incoming,
                principal,
                name=str(name),
                version=version,
                trial=asked,
                signature_required=asked_signature(request),
                wish=wish,
            )
        finally:
            await asyncio.to_thread(self._dataplane.catalogue.discard, incoming)
        answer = deploy_answer(result.model, created=result.created, warnings=result.warnings)
        return json_reply(answer, 201 if result.created else 200)

    deploy_local = deploy


def check_room(size_bytes: int | None, folder: Path) -> None:
    """Raises TooLargeError where the upload says it is larger than the disk, UnavailableError where it is larger than
    what is free on it, less what the catalogue itself needs."""
    disk = shutil.disk_usage(folder)
    if size_bytes is not None and size_bytes > disk.total:
        raise TooLargeError(f"the upload has {size_bytes} bytes, and this node's whole disk {disk.total}")
    free_bytes = max(0, disk.free - KEPT_FREE_BYTES)
    if (size_bytes or 0) >= free_bytes:
        upload = "the upload" if size_bytes is None else f"the upload has {size_bytes} bytes and"
        raise UnavailableError(
            f"{upload} does not fit: this node's disk has {free_bytes} bytes left for models, besides the "
            f"{KEPT_FREE_BYTES >> 20} MiB that stay free"
        )


async def receive(content: StreamReader, target: Path, make_room: MakeRoom) -> None:
    """Write the whole stream to a new file, in pieces; `make_room` is asked for more where the disk has none left.

    Raises BadInputError where it breaks off, UnavailableError where the disk is full, or as good as; what was written
    until then stays for the caller to remove."""
    try:
        file = await asyncio.to_thread(target.open, "xb")
    except OSError as error:
        raise UnavailableError(f"this node could not store the upload: {error.strerror}") from error
    try:
        with broken_bodies():
            await _copy(content, file, target.parent, make_room)
        await asyncio.to_thread(file.close)
    except BadInputError:
        _log.info("an upload broke off after %d bytes", file.tell())
        raise
    except OSError as error:
        raise UnavailableError(f"this node could not store the upload: {error.strerror}") from error
    finally:
        file.close()


async def _copy(content: StreamReader, file: BinaryIO, folder: Path, make_room: MakeRoom) -> None:
    # The loop hands out what the socket had, some 64 KiB; a thread's hop for each would cost more than the write.
    pieces: list[bytes] = []
    held_bytes = 0
    while piece := await content.readany():
        pieces.append(piece)
        held_bytes += len(piece)
        if held_bytes >= WRITE_BYTES:
            try:
                await asyncio.to_thread(_write, file, pieces, folder)
            except UnavailableError:
                await make_room(MORE_BYTES)
                await asyncio.to_thread(_write, file, pieces, folder)
            pieces, held_bytes = [], 0
    await asyncio.to_thread(file.writelines, pieces)


def _write(file: BinaryIO, pieces: list[bytes], folder: Path) -> None:
    check_room(None, folder)  # others write too
    file.writelines(pieces)


def asked_signature(request: web.Request) -> bool:
    """Whether the deployer asks for a signature. Raises BadInputError."""
    word = request.query.get("signature", "")
    if word not in ("", "required"):
        raise BadInputError(f"signature is '{word[:40]}': expected 'required', or nothing")
    return word == "required"
