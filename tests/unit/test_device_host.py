"""The worker of a device as the gateway holds it, before and while it loads models: real frames, no process."""

import asyncio
from collections.abc import Callable
from typing import Any

from appliance.core.frames import Kind, Load, Loaded
from appliance.core.manifest import Manifest
from appliance.workers.device_host import DeviceHost
from appliance.workers.region import SharedRegion
from appliance.workers.run_times import RunTimes
from appliance.workers.tenant import Tenant


class FakeLink:
    """Takes what is said to the worker."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []

    def send(self, frames: Any, _turns: int) -> None:
        self.kinds += [Kind(frame[1]) for frame in frames]

    def close(self) -> None:
        """There is nothing to close."""


class Device:
    def __init__(self) -> None:
        self.suspects: list[Tenant] = []
        self.built: list[Tenant] = []
        self.link = FakeLink()
        self.host = DeviceHost(
            1,
            SharedRegion(4096),
            on_held=lambda *_: None,
            on_built=self.built.append,
            on_unfit=lambda *_: None,
            on_lost=lambda _host, suspects: self.suspects.extend(suspects),
        )
        self.host.attach(self.link)  # type: ignore[arg-type]

    def expect(self, number: int) -> Tenant:
        tenant = Tenant(
            number, self.host, lambda _: None, run_times=RunTimes(), digest=str(number), on_answered=lambda _: None
        )
        self.host.expect(tenant, need_bytes=10, known_bytes=0)
        return tenant

    def load(self, tenant: Tenant) -> None:
        self.host.load(tenant, Load(tenant.number, "", Manifest(), 1, 1))

    def end(self) -> None:
        self.host.reaped(9)
        self.host.on_socket_closed()


def in_loop(scenario: Callable[[Device], None]) -> None:
    async def run() -> None:
        scenario(Device())

    asyncio.run(run())


def test_a_model_that_was_given_up_before_its_load_is_not_loaded() -> None:
    def scenario(device: Device) -> None:
        tenant, other = device.expect(1), device.expect(2)
        tenant.retire()
        device.load(tenant)
        assert device.link.kinds == [Kind.UNLOAD]
        device.end()
        device.load(other)
        assert device.link.kinds == [Kind.UNLOAD]

    in_loop(scenario)


def test_who_waits_for_its_engines_is_no_suspect_in_its_hosts_death() -> None:
    def scenario(device: Device) -> None:
        waiting, loading = device.expect(1), device.expect(2)
        device.load(loading)
        device.end()
        assert device.suspects == [loading]
        assert waiting.state == loading.state == "lost"

    in_loop(scenario)


def test_engines_are_looked_at_when_a_load_is_done_and_not_when_it_failed() -> None:
    def scenario(device: Device) -> None:
        good, bad = device.expect(1), device.expect(2)
        for tenant, error in ((good, ""), (bad, "no model")):
            device.load(tenant)
            device.host.on_frame(Loaded(["TensorrtExecutionProvider"], 1, error, tenant=tenant.number), b"")
        assert device.built == [good]
        device.end()

    in_loop(scenario)
