"""A model in the worker of a device, as its pool sees it: a replica that shares its process with others.

Runs in the gateway's event loop. What it shares, and what its neighbours do to it, is device_host.py's.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from appliance.core.frames import Answer, Failure, Held, Invoke, Loaded
from appliance.workers.link import Link
from appliance.workers.region import SharedRegion
from appliance.workers.replica import Replica
from appliance.workers.run_times import RunTimes
from appliance.workers.work import Work


class Host(Protocol):
    """The process that a tenant lives in."""

    pid: int
    region: SharedRegion
    link: Link | None

    def sent(self, call: int, tenant: "Tenant") -> None:
        """The answer to this call is the tenant's."""

    def unload(self, tenant: "Tenant") -> None:
        """The tenant takes no call any more, and owes none."""

    def kill_for(self, tenant: "Tenant", reason: str) -> bool:
        """Ends the process, for what this tenant did; False where it did nothing but wait for another."""


class Tenant(Replica):
    """Ended by unloading it: the process stays. Where it must be killed, the process is, with all its tenants."""

    def __init__(
        self,
        number: int,
        host: Host,
        on_change: Callable[[Replica], None],
        *,
        run_times: RunTimes,
        digest: str,
        on_answered: Callable[[str], None],
    ) -> None:
        """`on_answered(digest)` hears that the model lived to answer a call."""
        # What it takes of the box's memory is its host's, and small: its weights lie on the device.
        super().__init__(number, host.region, on_change, run_times=run_times, memory_bytes=0)
        self.shares_process = True
        self.digest = digest
        self.known_bytes = 0  # of the device's memory, what it came to when it ran before
        self.is_asked_for = False  # its host was told to load it
        self._host = host
        self._on_answered = on_answered
        self.pid = host.pid

    def send(self, work: Work, *, alone: bool = False) -> None:
        self.link = self._host.link
        super().send(work, alone=alone)
        if work.invoke.call in self.in_flight:
            self._host.sent(work.invoke.call, self)

    def _laid_out(self, work: Work) -> tuple[Invoke, list[bytes]]:
        invoke, inline = super()._laid_out(work)
        return msgspec.structs.replace(invoke, tenant=self.number), inline

    def on_frame(self, head: Answer | Failure | Loaded | Held, body: bytes) -> None:
        if isinstance(head, Loaded) and head.error:
            # It never was: its pool is to find it another place, and to hold nothing against the model.
            self.load_error = head.error
            self.gone(head.error, asked_for=True)
            return
        if isinstance(head, Answer):
            self._on_answered(self.digest)
        super().on_frame(head, body)

    def kill(self, reason: str = "") -> None:
        if self._host.kill_for(self, reason):
            self.end_reason = self.end_reason or reason

    def end_if_done(self) -> None:
        if self.state == "retiring" and not self.in_flight and not self.sequences:
            self._host.unload(self)
            self.gone("it was unloaded", asked_for=True)

    def gone(self, reason: str, *, asked_for: bool) -> None:
        """It is in its host no more. `asked_for`, or owing nothing: no death of the model's."""
        if self.state == "lost":
            return
        self.end_reason = self.end_reason or reason
        self.retired = self.retired or asked_for or not self.in_flight
        for work in self.in_flight.values():
            self._give_back(work)
        self.state = "lost"
        self.ended.set()
        self._on_change(self)
