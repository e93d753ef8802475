"""Cold-start seconds that callers suffer by the keep-warm policy against LRU: `python -m benchmarks.keep_warm`.

A simulation: the trace's calls in their order, on a clock that jumps, with the policy that the node runs
(appliance/routing/keep_warm.py). A call to a cold model waits for the whole start, a call to one that is starting for
the rest of it. Memory is taken from the beginning of a start. Runs take no time. Nothing here depends on the machine.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Protocol

from appliance.routing.keep_warm import Candidate, KeepWarm
from benchmarks.keep_warm_trace import BUDGET_MODELS, DAYS, MODELS, Trace, make_trace
from benchmarks.report import Section, verdict, whole, write_section

_SEED = 1
_OTHER_SEEDS = (2, 3, 4)
_GOAL = 0.7
_TICK_S = 10.0
_IDLE_LIMIT_S = 600.0


class Policy(Protocol):
    """What a replay asks. The three below answer."""

    def called(self, key: Hashable, now_s: float) -> None: ...

    def learned(self, key: Hashable, *, cold_start_s: float, memory_bytes: int) -> None: ...

    def make_room(
        self, warm: Sequence[Candidate], need_bytes: int, now_s: float, *, for_key: Hashable
    ) -> list[Hashable] | None: ...

    def to_end(
        self, warm: Sequence[Candidate], now_s: float, *, used_bytes: int, budget_bytes: int
    ) -> list[Hashable]: ...

    def to_start(self, warm: Sequence[Candidate], now_s: float, *, free_bytes: int) -> Hashable | None: ...


class Lru:
    """Ends the longest unused, and those unused for `idle_limit_s`."""

    def __init__(self, idle_limit_s: float = float("inf")) -> None:
        self._idle_limit_s = idle_limit_s
        self._used_s: OrderedDict[Hashable, float] = OrderedDict()

    def called(self, key: Hashable, now_s: float) -> None:
        self._used_s[key] = now_s
        self._used_s.move_to_end(key)

    def learned(self, key: Hashable, *, cold_start_s: float, memory_bytes: int) -> None:
        """Does not matter to it."""

    def make_room(
        self, warm: Sequence[Candidate], need_bytes: int, now_s: float, *, for_key: Hashable
    ) -> list[Hashable] | None:
        chosen: list[Hashable] = []
        for candidate in sorted(warm, key=lambda each: self._used_s[each.key]):
            if need_bytes <= 0:
                break
            if candidate.idle_replicas:
                chosen.append(candidate.key)
                need_bytes -= candidate.memory_bytes
        return chosen if need_bytes <= 0 else None

    def to_end(self, warm: Sequence[Candidate], now_s: float, *, used_bytes: int, budget_bytes: int) -> list[Hashable]:
        return [
            each.key for each in warm if each.idle_replicas and now_s - self._used_s[each.key] >= self._idle_limit_s
        ]

    def to_start(self, warm: Sequence[Candidate], now_s: float, *, free_bytes: int) -> Hashable | None:
        return None


class OnCallOnly(KeepWarm):
    """The policy without its starts ahead of calls, to tell what those bring."""

    def to_start(self, warm: Sequence[Candidate], now_s: float, *, free_bytes: int) -> Hashable | None:
        return None


@dataclass
class Outcome:
    """`suffered_s`: the sum over all calls of the time they waited for a start."""

    suffered_s: float = 0.0
    cold_calls: int = 0
    starts: int = 0
    starting_s: float = 0.0
    starts_ahead: int = 0
    byte_s: float = 0.0
    length_s: float = 0.0


@dataclass
class Replay:
    """One trace through one policy."""

    trace: Trace
    policy: Policy
    outcome: Outcome = field(default_factory=Outcome)
    _ready_s: dict[int, float] = field(default_factory=dict)  # of what is warm or starting
    _starting: list[tuple[float, int]] = field(default_factory=list)
    _waiting: dict[int, list[float]] = field(default_factory=dict)  # calls for which no room could be made yet
    _used_bytes: int = 0

    def __post_init__(self) -> None:
        self.budget_bytes = self.trace.budget_bytes

    def run(self) -> Outcome:
        tick_s = _TICK_S
        for now_s, model in zip(self.trace.times_s, self.trace.models, strict=True):
            while min(tick_s, self._starting[0][0] if self._starting else tick_s) <= now_s:
                if self._starting and self._starting[0][0] <= tick_s:
                    self._started(*heappop(self._starting))
                else:
                    self._tick(tick_s)
                    tick_s += _TICK_S
            self._call(model, now_s)
        return self.outcome

    def _call(self, model: int, now_s: float) -> None:
        self.policy.called(model, now_s)
        ready_s = self._ready_s.get(model)
        if ready_s is None and not self._start(model, now_s, [*self._waiting.get(model, ()), now_s]):
            self._waiting.setdefault(model, []).append(now_s)
        elif ready_s is not None and ready_s > now_s:
            self._suffer(ready_s - now_s)

    def _suffer(self, waited_s: float) -> None:
        self.outcome.cold_calls += 1
        self.outcome.suffered_s += waited_s

    def _start(self, model: int, now_s: float, calls_s: Sequence[float]) -> bool:
        """Starts the model for the calls that came at these times; False where no room can be made."""
        size_bytes = self.trace.sizes_bytes[model]
        need_bytes = size_bytes - (self.budget_bytes - self._used_bytes)
        if need_bytes > 0:
            ended = self.policy.make_room(self._candidates(now_s), need_bytes, now_s, for_key=model)
            if ended is None:
                return False
            self._end(ended)
        cold_start_s = self.trace.cold_starts_s[model]
        self._ready_s[model] = now_s + cold_start_s
        heappush(self._starting, (now_s + cold_start_s, model))
        self._used_bytes += size_bytes
        self._waiting.pop(model, None)
        self.outcome.starts += 1
        self.outcome.starting_s += cold_start_s
        self.outcome.starts_ahead += not calls_s
        for call_s in calls_s:
            self._suffer(now_s + cold_start_s - call_s)
        return True

    def _started(self, now_s: float, model: int) -> None:
        self.policy.learned(
            model, cold_start_s=self.trace.cold_starts_s[model], memory_bytes=self.trace.sizes_bytes[model]
        )
        for waiting in list(self._waiting):
            self._start(waiting, now_s, self._waiting[waiting])

    def _end(self, models: Sequence[Hashable]) -> None:
        for model in models:
            assert isinstance(model, int)
            del self._ready_s[model]
            self._used_bytes -= self.trace.sizes_bytes[model]

    def _tick(self, now_s: float) -> None:
        self.outcome.byte_s += self._used_bytes * _TICK_S
        self.outcome.length_s = now_s
        budget_bytes = self.budget_bytes
        warm = self._candidates(now_s)
        if ended := self.policy.to_end(warm, now_s, used_bytes=self._used_bytes, budget_bytes=budget_bytes):
            self._end(ended)
            warm = self._candidates(now_s)
        ahead = self.policy.to_start(warm, now_s, free_bytes=budget_bytes - self._used_bytes)
        if ahead is not None:
            assert isinstance(ahead, int)
            self._start(ahead, now_s, ())

    def _candidates(self, now_s: float) -> list[Candidate]:
        sizes = self.trace.sizes_bytes
        return [
            Candidate(model, sizes[model], 1, 1 if ready_s <= now_s else 0) for model, ready_s in self._ready_s.items()
        ]


_CONTESTANTS: Mapping[str, Callable[[], Policy]] = {
    "LRU": Lru,
    "LRU, ended after 10 idle minutes": partial(Lru, _IDLE_LIMIT_S),
    "by value": KeepWarm,
}
_ON_CALL_ONLY = "by value, nothing started ahead"


def compare(
    contestants: Mapping[str, Callable[[], Policy]], seed: int, days: float, *, cold_starts_follow_size: bool = False
) -> tuple[list[list[str]], float]:
    """The table's rows of one trace, and the policy's cold-start seconds over the better LRU's."""
    trace = make_trace(seed, days=days, cold_starts_follow_size=cold_starts_follow_size)
    outcomes = {name: Replay(trace, make()).run() for name, make in contestants.items()}
    lru_s = min(outcome.suffered_s for name, outcome in outcomes.items() if name.startswith("LRU"))
    rows = [
        [
            name,
            whole(outcome.suffered_s),
            f"{outcome.suffered_s / lru_s:.2f}",
            f"{outcome.cold_calls / len(trace.times_s):.1%}",
            whole(outcome.starts),
            whole(outcome.starting_s),
            f"{outcome.byte_s / outcome.length_s / trace.budget_bytes:.0%}",
        ]
        for name, outcome in outcomes.items()
    ]
    return rows, outcomes["by value"].suffered_s / lru_s


def measure(days: float = DAYS) -> Section:
    """The fixed trace, the same with three other seeds, and once with cold starts in proportion to size."""
    proportional = "cold starts in proportion to size"
    with ProcessPoolExecutor() as processes:
        compared = {
            "fixed": processes.submit(compare, {**_CONTESTANTS, _ON_CALL_ONLY: OnCallOnly}, _SEED, days),
            **{f"seed {seed}": processes.submit(compare, _CONTESTANTS, seed, days) for seed in _OTHER_SEEDS},
            proportional: processes.submit(compare, _CONTESTANTS, _SEED, days, cold_starts_follow_size=True),
        }
        results = {title: future.result() for title, future in compared.items()}
    return Section(
        "keep_warm",
        f"{MODELS} models, {days:g} days, memory for {BUDGET_MODELS} of average size; simulated, with the node's "
        "policy. Seconds that callers waited for starts, and what the starts themselves took.",
        (
            "trace",
            "policy",
            "waited, s",
            "over the better LRU",
            "calls delayed",
            "starts",
            "starting, s",
            "memory used",
        ),
        [[title, *row] for title, (rows, _) in results.items() for row in rows],
        [
            verdict("cold-start seconds over the better LRU's", results["fixed"][1], _GOAL, at_most=True),
            *(f"the same, {title}: **{ratio:.2f}**" for title, (_, ratio) in results.items() if title != "fixed"),
        ],
    )


if __name__ == "__main__":
    write_section(measure())
