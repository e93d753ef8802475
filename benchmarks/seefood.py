"""An app whose calls follow the day, on three strategies: `python -m benchmarks.seefood`.

The case: the app is called at lunch, less at dinner, hardly at night: 140 calls a second at the peak, 21 on average. A
machine answers 3.5 a second, one at a time, and costs $0.90 an hour while it is warm or starting. The story's own
figures: 40 machines at all times, $25,920 a month; scaled by the hour, 19 on average, $12,312; by need, 6, $3,888.

A simulation of the whole day, call by call, on a clock that jumps: Poisson arrivals, a queue, replicas that take a
second to start. The kernel's decisions are the node's own: routing/scaling.py, arrival_rate.py and keep_warm.py. The
hourly strategy is a generous one: it knows each hour's highest rate beforehand.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from appliance.routing.arrival_rate import ArrivalRate
from appliance.routing.keep_warm import Candidate, KeepWarm
from appliance.routing.scaling import Demand, Wanted, servers, wanted_replicas
from benchmarks.replica_queue import ReplicaQueue
from benchmarks.report import Section, verdict, whole, write_section
from benchmarks.seefood_day import DAY_S, PEAK_PER_S, arrivals_s, hourly, rates_per_s
from benchmarks.seefood_plot import draw

CALLS_PER_S = 3.5  # of one machine
RUN_S = 1 / CALLS_PER_S
COLD_START_S = 1.0
TARGET_S = 1.0  # p99
DOLLARS_PER_HOUR = 0.9
MONTH_DAYS = 30
TURN_S = 0.5
_SEED = 1
_GOAL = 1.25
_MOST = 1000  # replicas that the kernel may have: far above the need
_MEMORY_BYTES = 200_000_000
PLOT = Path(__file__).with_name("plots") / "seefood.svg"


class Strategy(Protocol):
    """How many replicas there should be, asked at every turn; `calls` came since the last."""

    def __call__(self, queue: ReplicaQueue, calls: int, now_s: float) -> int: ...


@dataclass
class Fixed:
    replicas: int

    def __call__(self, queue: ReplicaQueue, calls: int, now_s: float) -> int:
        return self.replicas


@dataclass
class Hourly:
    """What each hour's highest rate needs for the target, from the hour's begin to its end."""

    by_hour: Sequence[int]

    def __call__(self, queue: ReplicaQueue, calls: int, now_s: float) -> int:
        return self.by_hour[int(now_s // 3600)]


class Kernel:
    """The node's policies, asked as its scheduler asks them."""

    def __init__(self) -> None:
        self._rate = ArrivalRate(-TURN_S)
        self._wanted = Wanted()
        self._keep_warm = KeepWarm()
        self._keep_warm.learned("seefood", cold_start_s=COLD_START_S, memory_bytes=_MEMORY_BYTES)

    def __call__(self, queue: ReplicaQueue, calls: int, now_s: float) -> int:
        self._rate.count(calls, now_s)
        if calls:
            self._keep_warm.called("seefood", now_s)
        demand = Demand(
            waiting=len(queue.waiting),
            in_flight=queue.in_flight,
            arrivals_per_s=self._rate.per_s,
            run_s=RUN_S,
            replicas=queue.ready,
            starting=len(queue.starting),
            cold_start_s=COLD_START_S,
            target_latency_s=TARGET_S,
            max_replicas=_MOST,
        )
        self._wanted = wanted_replicas(demand, self._wanted, now_s)
        if self._wanted.replicas == 1 and queue.idle == 1 and self._ends_the_last(now_s):
            self._wanted = Wanted()
        return self._wanted.replicas

    def _ends_the_last(self, now_s: float) -> bool:
        last = Candidate("seefood", _MEMORY_BYTES, replicas=1, idle_replicas=1)
        return bool(self._keep_warm.to_end([last], now_s, used_bytes=_MEMORY_BYTES, budget_bytes=100 * _MEMORY_BYTES))


@dataclass
class Replayed:
    """One strategy's day. `replicas` are those billed in each turn; `replica_hours` their sum over time."""

    latencies_s: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)

    @property
    def replica_hours(self) -> float:
        return sum(self.replicas) * TURN_S / 3600

    @property
    def p99_s(self) -> float:
        return statistics.quantiles(self.latencies_s, n=100)[98]


_STORY_MACHINES = {"fixed": 40, "by the hour": 19, "this kernel": 6}


def replay(times_s: Sequence[float], strategy: Strategy, *, until_s: float = DAY_S) -> Replayed:
    """Every call through the queue, with a turn of the strategy each TURN_S."""
    queue = ReplicaQueue(run_s=RUN_S, cold_start_s=COLD_START_S, ready=0)
    replicas = []
    calls = iter(times_s)
    next_s = next(calls, until_s)
    for turn in range(int(until_s / TURN_S)):
        now_s = turn * TURN_S
        came = 0
        while next_s < now_s:
            queue.arrive(next_s)
            came += 1
            next_s = next(calls, until_s)
        queue.scale(strategy(queue, came, now_s), now_s)
        replicas.append(queue.ready + len(queue.starting))
    return Replayed(queue.latencies_s, replicas)


def measure(until_s: float = DAY_S, *, plot: Path = PLOT) -> Section:
    """The same calls through each strategy; the plot is written to `plot`."""
    rates = rates_per_s()[: int(until_s)]
    times_s = arrivals_s(rates, _SEED)
    by_hour = [servers(rate * RUN_S, (TARGET_S - RUN_S) / RUN_S, most=_MOST) for rate in hourly(rates_per_s())]
    strategies: dict[str, Strategy] = {
        "fixed": Fixed(_STORY_MACHINES["fixed"]),
        "by the hour": Hourly(by_hour),
        "this kernel": Kernel(),
    }
    replayed = {name: replay(times_s, strategy, until_s=until_s) for name, strategy in strategies.items()}
    ideal_hours = len(times_s) * RUN_S / 3600
    draw(plot, rates, {name: day.replicas for name, day in replayed.items()}, TURN_S)
    kernel = replayed["this kernel"]
    return Section(
        "seefood",
        f"A day of {len(times_s):,} calls, {PEAK_PER_S:g} a second at the peak; simulated, with the node's policies. "
        f"Dollars at ${DOLLARS_PER_HOUR:.2f} a machine-hour; the ideal is the work done over a machine's capacity. "
        "40 machines are just what the peak asks for, so calls queue for them there."
        f"\n\n![Calls a second, and machines of each strategy, over the day]({plot.parent.name}/{plot.name})",
        ("", "machine-hours", "over the ideal", "machines on average", "dollars a month", "in the story", "p99, s"),
        [
            _row("ideal", ideal_hours, ideal_hours, until_s),
            *(
                _row(name, day.replica_hours, ideal_hours, until_s, _STORY_MACHINES[name], day.p99_s)
                for name, day in replayed.items()
            ),
        ],
        [
            verdict("machine-hours over the ideal", kernel.replica_hours / ideal_hours, _GOAL, at_most=True),
            verdict("p99 in seconds", kernel.p99_s, TARGET_S, at_most=True),
        ],
    )


def _row(
    name: str, hours: float, ideal_hours: float, until_s: float, story: int | None = None, p99_s: float | None = None
) -> list[str]:
    machines = hours * 3600 / until_s
    return [
        name,
        f"{hours:,.1f}",
        f"{hours / ideal_hours:.2f}",
        f"{machines:.1f}",
        whole(_dollars_a_month(machines)),
        f"{whole(_dollars_a_month(story))} ({story} machines)" if story else "",
        f"{p99_s:.2f}" if p99_s else "",
    ]


def _dollars_a_month(machines: float) -> float:
    return machines * MONTH_DAYS * 24 * DOLLARS_PER_HOUR


if __name__ == "__main__":
    write_section(measure())
