"""Keys of a mesh on a node whose disk refuses them: taken once it can, and never told as they were."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from appliance.core.errors import UnauthenticatedError
from appliance.gateway import mesh_keys
from appliance.gateway.mesh_keys import KIND, MeshKeys
from appliance.security.keys import KeyRing, SharedKey
from appliance.security.limits import Limits
from federation.messages import Register, Stamp


class Mesh:
    """What MeshKeys asks of federation.mesh.Mesh."""

    def __init__(self) -> None:
        self.registers: list[Register] = []
        self.on_left: Callable[[], None] = lambda: None
        self.written: list[tuple[str, str]] = []

    def write_register(self, *, kind: str, name: str, key: str, value: str) -> None:
        self.written.append((name, value))


@contextmanager
def disk_that_refuses(ring: KeyRing) -> Iterator[None]:
    ring._database.rows("PRAGMA query_only = ON")
    yield
    ring._database.rows("PRAGMA query_only = OFF")


def register(key: SharedKey) -> Register:
    return Register(KIND, key.id, "", Stamp(1, 0, "f" * 32), msgspec.json.encode(key).decode())


def is_good(ring: KeyRing, secret: str) -> bool:
    try:
        ring.authenticate(f"Bearer {secret}")
    except UnauthenticatedError:
        return False
    return True


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


@pytest.fixture
def rings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[KeyRing, KeyRing]]:
    monkeypatch.setattr(mesh_keys, "RETRY_S", 0.02)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, there = KeyRing(tmp_path / "here"), KeyRing(tmp_path / "there")
    yield here, there
    here.close()
    there.close()


def test_a_key_that_a_full_disk_refuses_is_taken_once_there_is_room(rings: tuple[KeyRing, KeyRing]) -> None:
    here, there = rings
    record, secret = there.create("camera", ["call"], Limits())
    made = next(key for key in there.shared() if key.id == record.id)

    async def scenario() -> None:
        keys = MeshKeys(here, Mesh())  # type: ignore[arg-type]
        keys.start()
        with disk_that_refuses(here):
            keys.on_registers([register(made)])
            await until(lambda: made.id in keys._waiting)
            assert not is_good(here, secret)
        await until(lambda: is_good(here, secret))
        assert keys._waiting == {}
        keys.stop()

    run(scenario)


def test_a_revoked_key_lets_nobody_in_on_a_full_disk_and_is_not_told_as_good(rings: tuple[KeyRing, KeyRing]) -> None:
    here, there = rings
    record, secret = there.create("camera", ["call"], Limits())
    for key in there.shared():
        here.take(key)
    there.revoke(record.id)
    revoked = next(key for key in there.shared() if key.id == record.id)

    async def scenario() -> None:
        mesh = Mesh()
        keys = MeshKeys(here, mesh)  # type: ignore[arg-type]
        keys.start()
        await until(lambda: bool(mesh.written))
        mesh.written.clear()
        with disk_that_refuses(here):
            keys.on_registers([register(revoked)])
            await until(lambda: revoked.id in keys._waiting)
            assert not is_good(here, secret)
            mesh.registers = [register(revoked)]
            here.on_change()
            await until(lambda: bool(mesh.written))
            assert revoked.id not in dict(mesh.written)
        await until(lambda: keys._waiting == {})
        assert not is_good(here, secret)
        keys.stop()

    run(scenario)
