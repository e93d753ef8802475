"""Uploads for which a disk has no room at first: it is made as they come."""

import asyncio
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import StreamReader

from appliance.catalogue.staging import unpacked_bytes
from appliance.core.errors import UnavailableError
from appliance.gateway.deploys_api import KEPT_FREE_BYTES, MORE_BYTES, WRITE_BYTES, receive


class Body:
    """A body that does not say how long it is."""

    def __init__(self, pieces: int) -> None:
        self._pieces: Iterator[bytes] = iter([b"x" * WRITE_BYTES] * pieces)

    async def readany(self) -> bytes:
        return next(self._pieces, b"")


@pytest.mark.parametrize("gives_way", [True, False])
def test_an_upload_has_room_made_when_the_disk_has_none_left(
    gives_way: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "upload"
    room_bytes = 2 * WRITE_BYTES
    asked: list[int] = []

    def disk_usage(_folder: Path) -> SimpleNamespace:
        free = KEPT_FREE_BYTES + room_bytes - (target.stat().st_size if target.exists() else 0)
        return SimpleNamespace(total=10**12, free=free)

    async def make_room(size_bytes: int) -> None:
        nonlocal room_bytes
        asked.append(size_bytes)
        room_bytes += 4 * WRITE_BYTES * gives_way

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    taking = receive(cast(StreamReader, Body(5)), target, make_room)
    if gives_way:
        asyncio.run(taking)
        assert target.stat().st_size == 5 * WRITE_BYTES
    else:
        with pytest.raises(UnavailableError, match="does not fit"):
            asyncio.run(taking)
    assert asked == [MORE_BYTES]


def test_a_bundle_needs_room_for_what_is_in_it_and_a_model_for_nothing_more(tmp_path: Path) -> None:
    model, bundle = tmp_path / "model.onnx", tmp_path / "model.ingle"
    model.write_bytes(b"\x08\x0a" + bytes(1000))
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(model, "model.onnx")
        archive.writestr("labels.txt", "a\nb\n")
    assert (unpacked_bytes(model), unpacked_bytes(bundle)) == (0, 1006)
