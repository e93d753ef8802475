"""The worker of one device, as the gateway holds it: its process, its link, its tenants and who holds what.

Runs in the gateway's event loop. Which model becomes a tenant is placement.py's to say; this does it.
"""

import asyncio
import time
from collections.abc import Callable

from appliance.core.frames import Answer, Failure, Held, Kind, Load, Loaded, Unload, frame_start
from appliance.workers.child import LinkedChild
from appliance.workers.device_turn import TURN_BYTES, read_turn
from appliance.workers.link import Link
from appliance.workers.region import SharedRegion
from appliance.workers.tenant import Tenant
from appliance.workers.vram_ledger import VramLedger

# How exactly it is known since when it has said nothing: run limits are seconds.
_LIVES_EVERY_S = 0.1


class DeviceHost(LinkedChild):
    """From the fork to the end. `on_held(digest, bytes)` hears what a model was measured to hold; `on_built(tenant)`
    that it may have built engines, and writes none just now; `on_lost(host, suspects)` hears of the end, with the
    tenants that were loading or running, before its tenants' pools do."""

    def __init__(
        self,
        number: int,
        region: SharedRegion,
        *,
        on_held: Callable[[str, int], None],
        on_built: Callable[[Tenant], None],
        on_unfit: Callable[[Tenant, str, bool], None],
        on_lost: Callable[["DeviceHost", list[Tenant]], None],
    ) -> None:
        super().__init__(number)
        self.region = region
        self.ledger = VramLedger()
        self.tried: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self.tenants: dict[int, Tenant] = {}
        self._calls: dict[int, Tenant] = {}
        self._blamed: Tenant | None = None
        self._given_up: set[int] = set()  # tenants that were unloaded while they were loaded
        self._is_explained = False  # it said itself why it ends, and who is to blame has had what follows
        self._outbox: list[bytes] = []
        self._on_held = on_held
        self._on_built = on_built
        self._on_unfit = on_unfit
        self._on_lost = on_lost
        self._lived_s = 0.0

    # What is said to it.

    def expect(self, tenant: Tenant, *, need_bytes: int, known_bytes: int) -> None:
        """A model is to be opened: load() it. It is reckoned with `need_bytes` until it is measured, and with no less
        than `known_bytes`, what it came to before, until it has run."""
        self.tenants[tenant.number] = tenant
        tenant.known_bytes = known_bytes
        self.ledger.reckon(tenant.number, need_bytes)

    def load(self, tenant: Tenant, load: Load) -> None:
        """Has a model opened that was expected, unless it was given up or lost since."""
        if self.tenants.get(tenant.number) is not tenant:
            return
        tenant.is_asked_for = True
        tenant.started_s = time.monotonic()
        self._say(frame_start(Kind.LOAD, load, 0))

    def unload(self, tenant: Tenant) -> None:
        """Frames are read in order: what is loaded after this finds the memory free."""
        if not tenant.ready_s and tenant.is_asked_for:
            self._given_up.add(tenant.number)
        self._forget(tenant)
        self._say(frame_start(Kind.UNLOAD, Unload(tenant.number), 0))

    def _say(self, frame: bytes) -> None:
        if self.link is None:
            self._outbox.append(frame)
        else:
            self.link.send((frame,), 1)

    def sent(self, call: int, tenant: Tenant) -> None:
        self._calls[call] = tenant

    def kill_for(self, tenant: Tenant, reason: str) -> bool:
        """Ends the process for what one tenant did. Where another is loaded or run, this one only waits, and begins
        anew: the other's own limit holds."""
        if self._turn() in self._given_up:
            self._is_explained = True  # for whom nobody's limit holds any more
            self.kill(f"it loaded a model that nobody wants any more, and {reason}")
            return True
        running = self._running()
        if running is not None and running is not tenant:
            tenant.started_s = now_s = time.monotonic()
            tenant.busy_since_s = now_s if tenant.in_flight else None
            return False
        self._blamed = tenant
        self.kill(f"{reason} (with all models on this device)" if len(self.tenants) > 1 else reason)
        return True

    def _turn(self) -> int:
        return read_turn(self.region.end(TURN_BYTES))

    def _running(self) -> Tenant | None:
        """Whose turn it is, as far as it has something to do."""
        tenant = self.tenants.get(self._turn())
        return tenant if tenant is not None and _is_busy(tenant) else None

    # What it says.

    def attach(self, link: Link) -> None:
        self.link = link
        if self.ended.is_set():
            link.close()
        elif self._outbox:
            link.send(self._outbox, 1)
            self._outbox = []

    def on_frame(self, head: Answer | Failure | Loaded | Held, body: bytes) -> None:
        self._it_lives()
        if isinstance(head, Answer | Failure):
            if tenant := self._calls.pop(head.call, None):
                tenant.on_frame(head, body)
        elif isinstance(head, Held):
            self._held(head)
        elif head.tenant in self._given_up:
            self._given_up.remove(head.tenant)
        elif not head.tenant:
            self.ledger.set_free(head.free_bytes)
            if not self.tried.done():
                self.tried.set_result(head)
        elif tenant := self.tenants.get(head.tenant):
            self._loaded(tenant, head)

    def _it_lives(self) -> None:
        """It runs one batch or load at a time, so while it says something nobody hangs: all who wait begin anew."""
        now_s = time.monotonic()
        if now_s - self._lived_s < _LIVES_EVERY_S:
            return
        self._lived_s = now_s
        for tenant in self.tenants.values():
            if tenant.state == "starting":
                tenant.started_s = now_s
            elif tenant.in_flight:
                tenant.busy_since_s = now_s

    def _loaded(self, tenant: Tenant, head: Loaded) -> None:
        tenant.pid = self.pid
        if head.error:
            self._forget(tenant)
            self._on_unfit(tenant, head.error, head.no_memory)
        else:
            self._measured(tenant, head.used_bytes, tenant.known_bytes)
            self._on_built(tenant)
        self.ledger.set_free(head.free_bytes)
        tenant.on_frame(head, b"")

    def _held(self, head: Held) -> None:
        tenant = self.tenants.get(head.tenant)
        if head.ends:
            self._is_explained = True
            self.end_reason = head.reason
        if tenant is not None and head.gone:
            self._forget(tenant)
            self._on_unfit(tenant, head.reason, not head.ends)
            self._drop_calls(tenant)
            tenant.gone(head.reason, asked_for=False)
        elif tenant is not None:
            self._measured(tenant, head.used_bytes, 0)
            self._on_built(tenant)
        self.ledger.set_free(head.free_bytes)

    def _measured(self, tenant: Tenant, used_bytes: int, at_least_bytes: int) -> None:
        if used_bytes > 0:
            tenant.device_bytes = used_bytes
            self.ledger.hold(tenant.number, used_bytes, at_least_bytes=at_least_bytes)
            self._on_held(tenant.digest, used_bytes)

    def _forget(self, tenant: Tenant) -> None:
        self.tenants.pop(tenant.number, None)
        self.ledger.drop(tenant.number)

    def _drop_calls(self, tenant: Tenant) -> None:
        for call in tenant.in_flight:
            self._calls.pop(call, None)

    # Its end.

    def _when_lost(self) -> None:
        if not self.tried.done():
            self.tried.set_result(Loaded([], 0, f"its worker was lost: {self.end_reason}"))
        tenants = list(self.tenants.values())
        culprit = self._blamed or self._running()
        busy = [culprit] if culprit else [tenant for tenant in tenants if _is_busy(tenant)]
        suspects = [] if self._is_explained else busy
        self._on_lost(self, suspects)
        for tenant in tenants:
            tenant.blameless = self.blameless or tenant not in suspects
            tenant.gone(self.end_reason, asked_for=tenant.state == "starting" and tenant is not self._blamed)
        self.tenants.clear()
        self.region.close()


def _is_busy(tenant: Tenant) -> bool:
    return bool(tenant.in_flight) or (tenant.state == "starting" and tenant.is_asked_for)
