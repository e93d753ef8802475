"""The mesh's wishes: last-writer-wins registers that every node keeps. Pure; what must outlive the node is told to
whoever stores it, and whom they are sent to is not decided here.

Of two values of one register the one with the higher stamp stands on every node, whatever the order in which they
came. An emptied register (an alias that was taken away), and a removal, is kept TOMBSTONE_S so that a node that was
away hears of it; then each node forgets it by its own clock, and does not take it up again.
"""

from collections.abc import Callable, Iterable, Mapping

from federation.catalogue_hash import SumHash, register_bucket, register_hash
from federation.credible import credible_register
from federation.hybrid_clock import HybridClock
from federation.messages import Register

TOMBSTONE_S = 30 * 24 * 3600.0
MAX_REGISTERS = 100_000
MAX_REGISTERS_CHARS = 64 * 1024 * 1024  # names, keys and values of all

RegisterKey = tuple[str, str, str]  # kind, name, key


def register_key(register: Register) -> RegisterKey:
    return (register.kind, register.name, register.key)


def stands_over(one: Register, other: Register) -> bool:
    """Two nodes with one id may write one stamp: the value decides then, so that all nodes agree."""
    return (one.stamp, one.value) > (other.stamp, other.value)


def is_forgotten(register: Register, unix_s: float) -> bool:
    """Is it a tombstone that has been kept long enough?"""
    is_tombstone = not register.value or register.kind == "removed"
    return is_tombstone and register.stamp.ms / 1000 + TOMBSTONE_S < unix_s


def _chars(register: Register) -> int:
    return len(register.name) + len(register.key) + len(register.value)


class RegisterSet:
    """All registers that this node knows. `hash` is theirs."""

    def __init__(self, clock: HybridClock, unix_s: Callable[[], float], kept: Iterable[Register] = ()) -> None:
        self.hash = SumHash()
        self._clock = clock
        self._unix_s = unix_s
        self._by_bucket: dict[int, dict[RegisterKey, Register]] = {}
        self._by_name: dict[str, dict[RegisterKey, Register]] = {}
        self._count = 0
        self._chars = 0
        self.merge(kept)

    def __len__(self) -> int:
        return self._count

    def of(self, name: str) -> Mapping[RegisterKey, Register]:
        """Those about one model, or one node's public key."""
        return self._by_name.get(name, {})

    def get(self, kind: str, name: str, key: str) -> Register | None:
        return self.of(name).get((kind, name, key))

    def names(self) -> Iterable[str]:
        return self._by_name.keys()

    def in_bucket(self, bucket: int) -> list[Register]:
        return list(self._by_bucket.get(bucket, {}).values())

    def write(self, kind: str, name: str, key: str, value: str, *, least_ms: int = 0) -> Register:
        """The register with a stamp above the one it has; merge() it. Changes nothing yet."""
        known = self.get(kind, name, key)
        stamp = self._clock.stamp(known.stamp if known is not None else None, least_ms=least_ms)
        return Register(kind, name, key, stamp, value)

    def merge(self, registers: Iterable[Register]) -> list[Register]:
        """Takes what is news; gives that. What is not credible, no news, a tombstone that is to be forgotten, or new
        beyond MAX_REGISTERS is passed over."""
        unix_s = self._unix_s()
        return [register for register in registers if self._take(register, unix_s)]

    def forget_tombstones(self) -> list[RegisterKey]:
        unix_s = self._unix_s()
        forgotten = [
            register
            for registers in self._by_name.values()
            for register in registers.values()
            if is_forgotten(register, unix_s)
        ]
        for register in forgotten:
            self._drop(register)
        return [register_key(register) for register in forgotten]

    def forget_kind(self, kind: str) -> list[RegisterKey]:
        """Drops all of one kind, here alone; which they were."""
        dropped = [r for registers in self._by_name.values() for r in registers.values() if r.kind == kind]
        for register in dropped:
            self._drop(register)
        return [register_key(register) for register in dropped]

    def _take(self, register: Register, unix_s: float) -> bool:
        if not credible_register(register) or is_forgotten(register, unix_s):
            return False
        known = self.get(*register_key(register))
        if known is not None:
            if not stands_over(register, known):
                return False
        elif self._count >= MAX_REGISTERS:
            return False
        if self._chars + _chars(register) > MAX_REGISTERS_CHARS:
            return False
        if known is not None:
            self._drop(known)
        self._clock.saw(register.stamp)
        key, bucket = register_key(register), register_bucket(register)
        self._by_bucket.setdefault(bucket, {})[key] = register
        self._by_name.setdefault(register.name, {})[key] = register
        self._count += 1
        self._chars += _chars(register)
        self.hash.add(bucket, register_hash(register))
        return True

    def _drop(self, register: Register) -> None:
        key, bucket = register_key(register), register_bucket(register)
        del self._by_bucket[bucket][key]
        del self._by_name[register.name][key]
        if not self._by_name[register.name]:
            del self._by_name[register.name]
        self._count -= 1
        self._chars -= _chars(register)
        self.hash.take(bucket, register_hash(register))
