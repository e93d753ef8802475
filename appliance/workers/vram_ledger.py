"""Who holds how much of one GPU's memory, and what must go for another model to fit: a pure ledger.

What is written in it is measured by the worker of the device. Where nothing can be measured, the ledger knows no
budget and lets all in: what does not fit then says so itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Of what is free, how much models may have: workspaces and other programs need the rest.
SHARE = 0.9
# Weights as they are in the file, a copy in another layout, and the first run's tensors.
_UNMEASURED_TIMES = 2.0
_UNMEASURED_BYTES = 128 * 1024 * 1024


def worth(*, calls: int, age_s: float, idle_s: float, load_s: float, used_bytes: int) -> float:
    """What it is worth to keep a model on the device: seconds of loading that are spared in each second, for each byte
    (greedy-dual). Its call rate is that of its life, and no more than its idleness allows."""
    rate_per_s = min((calls + 1) / max(age_s, 1.0), 1 / max(idle_s, 0.001))
    return rate_per_s * max(load_s, 0.001) / max(used_bytes, 1)


class Room(NamedTuple):
    """Whether the model fits once those in `evict` have gone, and why not."""

    fits: bool
    evict: tuple[int, ...] = ()
    reason: str = ""


def estimate_bytes(size_bytes: int, measured_bytes: int) -> int:
    """What a model is reckoned to need: what it needed before, else by the size of its file."""
    return measured_bytes or int(size_bytes * _UNMEASURED_TIMES) + _UNMEASURED_BYTES


@dataclass
class VramLedger:
    """`budget_bytes` None: unknown. `used` is what each tenant is reckoned with, `held` what of that it was last
    measured to hold: a model grows with its first runs, and what it will grow to must not be given away before."""

    budget_bytes: int | None = None
    used: dict[int, int] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)

    def reckon(self, tenant: int, need_bytes: int) -> None:
        """A tenant is about to be loaded."""
        self.used[tenant] = need_bytes

    def hold(self, tenant: int, held_bytes: int, *, at_least_bytes: int = 0) -> None:
        """A tenant was measured; `at_least_bytes`: what it is known to come to."""
        self.held[tenant] = held_bytes
        self.used[tenant] = max(held_bytes, at_least_bytes)

    def drop(self, tenant: int) -> None:
        """A tenant is there no more."""
        self.used.pop(tenant, None)
        self.held.pop(tenant, None)

    def set_free(self, free_bytes: int) -> None:
        """What is free now, beside what tenants hold: other programs come and go. Below 0: it cannot be measured."""
        if free_bytes >= 0:
            self.budget_bytes = int(free_bytes * SHARE) + sum(self.held.values())

    @property
    def left_bytes(self) -> int | None:
        return None if self.budget_bytes is None else self.budget_bytes - sum(self.used.values())

    def room_for(self, need_bytes: int, worth: Mapping[int, float]) -> Room:
        """`worth` has the tenants that may be unloaded; the least worthy go first, and none goes in vain."""
        left_bytes = self.left_bytes
        if left_bytes is None or need_bytes <= left_bytes:
            return Room(True)
        evict = []
        for tenant in sorted(worth, key=lambda tenant: worth[tenant]):
            evict.append(tenant)
            left_bytes += self.used.get(tenant, 0)
            if need_bytes <= left_bytes:
                return Room(True, tuple(evict))
        return Room(
            False,
            (),
            f"it needs about {need_bytes / 2**20:.0f} MiB of the GPU's memory, and {max(0, left_bytes) / 2**20:.0f} "
            "MiB can be had",
        )
