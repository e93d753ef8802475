"""The worker of a device as the gateway holds it, before and while it loads models: real frames, no process."""

import asyncio
from collections.abc import Callable
from typing import Any

from appliance.core.frames import Held, Invoke, Kind, Load, Loaded
from appliance.core.manifest import Manifest
from appliance.workers.device_host import DeviceHost
from appliance.workers.device_turn import TURN_BYTES, write_turn
from appliance.workers.region import SharedRegion
from appliance.workers.run_times import RunTimes
from appliance.workers.tenant import Tenant
from appliance.workers.work import Work


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
        self.region = SharedRegion(4096, reserved_bytes=TURN_BYTES)
        self.host = DeviceHost(
            1,
            self.region,
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

    def busy(self, number: int) -> Tenant:
        """A tenant that was loaded and owes a call."""
        tenant = self.expect(number)
        self.load(tenant)
        self.host.on_frame(Loaded(["CUDAExecutionProvider"], 1, tenant=number), b"")
        tenant.send(Work(Invoke(number, 0, []), [], 1e12, asyncio.get_running_loop().create_future(), 0))
        return tenant

    def turn(self, tenant: Tenant) -> None:
        """What the worker says when it begins to load or to run a model."""
        with self.region.view(0, 4096) as shared:
            write_turn(shared, tenant.number)

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


def test_who_waits_for_anothers_load_or_run_is_not_ended_for_it_and_the_other_is() -> None:
    def scenario(device: Device) -> None:
        waiting, running, loading = device.busy(1), device.busy(2), device.expect(3)
        device.load(loading)
        for other in (running, loading):
            device.turn(other)
            waiting.kill("it ran too long")
            assert (waiting.end_reason, device.host.end_reason) == ("", "")
        loading.kill("it was not loaded")
        device.end()
        assert device.suspects == [loading]
        assert [tenant.blameless for tenant in (waiting, running, loading)] == [True, True, False]

    in_loop(scenario)


def test_who_runs_when_the_worker_dies_is_the_one_suspect() -> None:
    def scenario(device: Device) -> None:
        waiting, running = device.busy(1), device.busy(2)
        device.turn(running)
        device.end()
        assert device.suspects == [running]
        assert [tenant.blameless for tenant in (waiting, running)] == [True, False]

    in_loop(scenario)


def test_all_that_are_busy_are_suspects_where_the_word_names_none_of_them() -> None:
    def scenario(device: Device) -> None:
        one, other, idle = device.busy(1), device.busy(2), device.expect(3)
        device.turn(idle)
        device.end()
        assert device.suspects == [one, other]

    in_loop(scenario)


def test_nobody_is_blamed_for_an_end_that_the_worker_has_explained() -> None:
    def scenario(device: Device) -> None:
        guilty, waiting = device.busy(1), device.busy(2)
        device.turn(guilty)
        device.host.on_frame(Held(1, 0, -1, gone=True, reason="it broke the device", ends=True), b"")
        device.end()
        assert device.suspects == []
        assert [tenant.blameless for tenant in (guilty, waiting)] == [False, True]

    in_loop(scenario)


def test_who_waits_for_a_load_that_was_given_up_ends_it_and_is_not_blamed() -> None:
    def scenario(device: Device) -> None:
        waiting, loading = device.busy(1), device.expect(2)
        device.load(loading)
        device.turn(loading)
        loading.retire()
        waiting.kill("it ran too long")
        assert device.host.end_reason == "it loaded a model that nobody wants any more, and it ran too long"
        device.end()
        assert device.suspects == []
        assert waiting.blameless

    in_loop(scenario)


def test_a_load_that_was_given_up_and_is_over_excuses_nobody() -> None:
    def scenario(device: Device) -> None:
        hanging, loading = device.busy(1), device.expect(2)
        device.load(loading)
        loading.retire()
        device.host.on_frame(Loaded(["CUDAExecutionProvider"], 1, tenant=2), b"")
        device.turn(loading)  # which only the one that hangs can have written
        hanging.kill("it ran too long")
        device.end()
        assert device.suspects == [hanging]

    in_loop(scenario)
