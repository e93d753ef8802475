"""How many replicas of a model its calls want now, and how the box's cores are shared among models. Pure.

Runs in the gateway. Which model stays warm with no calls at all is keep_warm.py's: what is said here never ends a
model's last replica.
"""

import math
from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

LATE_SHARE = 0.01  # of the calls may exceed the target latency: p99
LEAST_HOLD_S = 5.0
HOLD_STARTS = 5.0  # a replica is kept for so many cold starts after it was last wanted
LARGE_MODEL_BYTES = 4 * 1024 * 1024  # smaller ones gain nothing from a second thread


class Demand(NamedTuple):
    """One model now. `run_s` is the time that one replica takes for each call at the batch sizes that it forms: one
    over the calls a second that it can answer; 0 until measured. `target_latency_s` is of the whole call."""

    waiting: int
    in_flight: int
    arrivals_per_s: float
    run_s: float
    replicas: int  # ready ones
    starting: int
    cold_start_s: float
    target_latency_s: float
    max_replicas: int
    floor: int = 0


class Wanted(NamedTuple):
    """How many replicas a model should have, and the time until which it keeps them if fewer are needed."""

    replicas: int = 0
    until_s: float = 0.0


def wanted_replicas(demand: Demand, before: Wanted, now_s: float) -> Wanted:
    """Up at once, down only when as many were not needed for a while, so that a lull does not cost a cold start.

    `before` is what this said last time for the same model. Nothing is kept of a model that has gone to sleep, nor more
    than there may be by now.
    """
    needed = needed_replicas(demand)
    asleep = not (demand.waiting or demand.in_flight or demand.replicas or demand.starting)
    kept = 0 if asleep else min(before.replicas, max(demand.max_replicas, demand.floor))
    if needed >= kept or now_s >= before.until_s:
        return Wanted(needed, now_s + max(LEAST_HOLD_S, HOLD_STARTS * demand.cold_start_s))
    return Wanted(kept, before.until_s)


def needed_replicas(demand: Demand) -> int:
    """The fewest replicas with which all but LATE_SHARE of the calls meet the target latency, within the bounds.

    Enough for the steady state; and where what waits already will be late, enough to work off in time what will wait
    when a replica started now is ready.
    """
    load = demand.arrivals_per_s * demand.run_s  # replicas that would be busy all the time
    patience_s = max(demand.target_latency_s - demand.run_s, demand.run_s / 2)
    steady = servers(load, patience_s / demand.run_s, most=demand.max_replicas) if demand.run_s else 0
    rushed = math.ceil(load + _backlog_s(demand, load) / patience_s) if _will_be_late(demand, patience_s) else 0
    last = 1 if demand.waiting or demand.in_flight or demand.replicas or demand.starting else 0
    return max(demand.floor, last, min(demand.max_replicas, max(steady, rushed)))


def _will_be_late(demand: Demand, patience_s: float) -> bool:
    """Whether the last of the calls that wait will have waited too long."""
    return demand.waiting * demand.run_s > demand.replicas * patience_s


def _backlog_s(demand: Demand, load: float) -> float:
    """Seconds of one replica's work that will wait when a replica started now is ready."""
    return max(0.0, demand.waiting * demand.run_s + (load - demand.replicas) * demand.cold_start_s)


def servers(load: float, patience_runs: float, *, most: int) -> int:
    """The fewest servers at which at most LATE_SHARE of the calls wait longer than `patience_runs` runs, up to `most`.

    Erlang's C formula for the probability of having to wait, and an exponential tail of the wait: for runs of constant
    length, as models' are, it falls about twice as fast as in M/M/n (Kingman's approximation, (1 + cv²) / 2).
    """
    if load <= 0:
        return 0
    blocked = 1.0  # Erlang's B, by its recurrence
    for count in range(1, most):
        blocked = load * blocked / (count + load * blocked)
        if count > load:
            waits = blocked / (1 - (load / count) * (1 - blocked))
            if waits * math.exp(-2 * (count - load) * patience_runs) <= LATE_SHARE:
                return count
    return most


def share_cores(wanted: Mapping[Key, int], cores: int) -> dict[Key, int]:
    """Max-min fair shares of the cores: nobody gets more than it wants, and who gets less than it wants gets at least
    as much as anybody else.

    Each that wants any gets one, though there be more models than cores: the kernel shares those in time.
    """
    shares = {key: min(1, cores_wanted) for key, cores_wanted in wanted.items()}
    left = cores - sum(shares.values())
    unmet = [key for key, cores_wanted in wanted.items() if cores_wanted > 1]
    while left > 0 and unmet:
        each = max(1, left // len(unmet))
        for key in unmet:
            more = min(each, wanted[key] - shares[key], left)
            shares[key] += more
            left -= more
        unmet = [key for key in unmet if shares[key] < wanted[key]]
    return shares


def threads_for(*, size_bytes: int, cores: int, busy_large: int, replicas: int) -> int:
    """Threads for a session that is made now: `busy_large` other large models had calls lately, and the model itself
    wants so many `replicas`.

    A large model on an idle box has all the cores; what computes beside it takes its part; a small one has one thread.
    """
    if size_bytes < LARGE_MODEL_BYTES:
        return 1
    return max(1, cores // max(busy_large + 1, replicas))
