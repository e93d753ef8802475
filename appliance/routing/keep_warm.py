"""Which models stay in memory: each one's worth, whom to end to make room, whom to end early, whom to start ahead.

Runs in the gateway, on one thread; all times are seconds of one monotonic clock that the caller reads. What is warm is
a cache: a replica is worth the seconds of cold start that it is expected to save, for each byte and second that it
stays (greedy-dual, as in FaasCache). The expectation is of the model's own idle times (idle_histogram.py), and falls as
it idles, so no cache-wide age is needed. Knows nothing of processes: routing's scheduler performs what is said here.
"""

import heapq
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from appliance.routing.idle_histogram import SHORTEST_S, IdleHistogram, next_edge_s

MAX_REMEMBERED = 65_536  # models; the longest uncalled is forgotten first
UNKNOWN_COLD_START_S = 0.5  # of a model whose start was never measured
UNKNOWN_IDLE_S = 600.0  # until a model's second call this is how long it is expected to idle
# Memory has a price even when nobody else wants it, since the box may have other uses: one second of cold start, saved,
# for a gigabyte kept for an hour.
LEAST_WORTH = 1.0 / (1e9 * 3600)
_OWN_HISTORY = 4  # idle times at which a model's histogram counts as much as its plain rate
_NEXT_REPLICA = 0.5  # the worth of a second replica against the first, of a third against the second
# A start ahead costs processor time and displaces others, so it must be likely to be used and clearly better.
_AHEAD_S = 300.0
_AHEAD_CHANCE = 0.5
_AHEAD_GAIN = 2.0
_AHEAD_SHARE = 0.05  # of the time may be spent on starting ahead
_AHEAD_SAVED_S = 60.0  # of starts that may be saved up
_LOOKS_A_TURN = 256


class Candidate(NamedTuple):
    """One model that is warm or starting, as the scheduler sees it now. Idle replicas have no call in flight and no
    lease: only these can be ended at once. `floor` is how many must stay, by the owner's word."""

    key: Hashable
    memory_bytes: int  # of one replica: measured, or estimated
    replicas: int
    idle_replicas: int
    floor: int = 0


class Replica(NamedTuple):
    """One that may be ended."""

    worth: float
    memory_bytes: int
    key: Hashable


def _worth_of(replica: Replica) -> float:
    return replica.worth


def fewest(replicas: Sequence[Replica], need_bytes: int) -> list[Replica] | None:
    """Those of `replicas`, least worth first, whose end frees `need_bytes`; None where all do not suffice.

    As many as it takes in their order, then without those, dearest first, that are not needed after all.
    """
    chosen: list[Replica] = []
    freed_bytes = 0
    for replica in replicas:
        if freed_bytes >= need_bytes:
            break
        chosen.append(replica)
        freed_bytes += replica.memory_bytes
    if freed_bytes < need_bytes:
        return None
    kept = []
    for replica in reversed(chosen):
        if freed_bytes - replica.memory_bytes >= need_bytes:
            freed_bytes -= replica.memory_bytes
        else:
            kept.append(replica)
    return kept[::-1]


class _Model:
    """What is remembered of one model: some hundred bytes, and its histogram from the second call on."""

    __slots__ = ("cold_start_s", "first_s", "idle", "last_s", "look_s", "memory_bytes", "rate_per_s", "rate_until_s")

    def __init__(self) -> None:
        self.first_s = math.nan  # no call yet
        self.last_s = math.nan
        self.idle: IdleHistogram | None = None
        self.cold_start_s = UNKNOWN_COLD_START_S
        self.memory_bytes = 0
        self.rate_per_s = 0.0
        self.rate_until_s = 0.0
        self.look_s = (
            math.inf
        )  # when to look at it, asleep, for a start ahead; entries of the heap with another are void

    def called(self, now_s: float) -> None:
        if math.isnan(self.first_s):
            self.first_s = now_s
        else:
            if self.idle is None:
                self.idle = IdleHistogram()
            self.idle.add(now_s - self.last_s)
        self.last_s = now_s
        self.rate_until_s = 0.0

    def call_rate(self, now_s: float) -> float:
        """Calls a second to expect now. Computed anew with each call and with each bucket of the time since."""
        if now_s >= self.rate_until_s:
            self.rate_per_s = self._call_rate(now_s)
            self.rate_until_s = self.last_s + next_edge_s(now_s - self.last_s)
        return self.rate_per_s

    def _call_rate(self, now_s: float) -> float:
        """From the histogram as far as it is representative, else from the plain rate."""
        if math.isnan(self.first_s):
            return 0.0
        idle_times = self.idle.total if self.idle else 0
        plain = (idle_times + 1) / (now_s - self.first_s + UNKNOWN_IDLE_S)
        if self.idle is None:
            return plain
        own = self.idle.call_rate(now_s - self.last_s)
        return (idle_times * own + _OWN_HISTORY * plain) / (idle_times + _OWN_HISTORY)

    def is_expected(self, now_s: float) -> bool:
        """Whether a call is likely to come soon."""
        return self.idle is not None and self.idle.chance(now_s - self.last_s, _AHEAD_S) >= _AHEAD_CHANCE

    def is_worth_more(self, others: Iterable[Replica], now_s: float) -> bool:
        """Whether it is worth clearly more than others that must end for it, and than its memory."""
        saved = self.call_rate(now_s) * self.cold_start_s
        lost = sum(other.worth * other.memory_bytes for other in others)
        return saved >= _AHEAD_GAIN * max(lost, LEAST_WORTH * self.memory_bytes)


class KeepWarm:
    def __init__(self, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._models: dict[Hashable, _Model] = {}  # the longest uncalled first
        self._warm: set[Hashable] = set()  # at the last to_start()
        self._looks: list[tuple[float, int, Hashable]] = []  # a heap of when to look at whom
        self._pushed = 0
        self._allowance_s = _AHEAD_SAVED_S
        self._allowed_at_s = math.nan

    # What is known.

    def called(self, key: Hashable, now_s: float) -> None:
        """A call arrived, or several at once. A few hundred nanoseconds for a busy model: only a call after
        SHORTEST_S without any is more than a note of the time."""
        model = self._models.get(key)
        if model is not None and now_s - model.last_s < SHORTEST_S:
            model.last_s = now_s
            return
        if model is None:
            model = self._remember(key)
        else:
            self._models[key] = self._models.pop(key)
        model.called(now_s)

    def learned(self, key: Hashable, *, cold_start_s: float | None = None, memory_bytes: int | None = None) -> None:
        """A start or a replica's memory was measured. The newest counts."""
        model = self._models.get(key) or self._remember(key)
        if cold_start_s is not None:
            model.cold_start_s = cold_start_s
        if memory_bytes is not None:
            model.memory_bytes = memory_bytes

    def forget(self, key: Hashable) -> None:
        """The model is gone."""
        self._models.pop(key, None)

    def _remember(self, key: Hashable) -> _Model:
        if len(self._models) >= self._max_remembered:
            del self._models[next(iter(self._models))]
        model = self._models[key] = _Model()
        return model

    # What follows.

    def worth(self, key: Hashable, memory_bytes: int, now_s: float) -> float:
        """Seconds of cold start that keeping one replica is expected to save, a byte and second."""
        model = self._models.get(key)
        return model.call_rate(now_s) * model.cold_start_s / max(1, memory_bytes) if model else 0.0

    def make_room(
        self, warm: Iterable[Candidate], need_bytes: int, now_s: float, *, for_key: Hashable
    ) -> list[Hashable] | None:
        """Which idle replicas to end so that `need_bytes` come free, least worth first: a key once a replica.

        Never `for_key`'s own. None where all that may be ended does not suffice.
        """
        if need_bytes <= 0:
            return []
        chosen = fewest(self._endable((other for other in warm if other.key != for_key), now_s), need_bytes)
        return None if chosen is None else [replica.key for replica in chosen]

    def to_end(self, warm: Iterable[Candidate], now_s: float, *, used_bytes: int, budget_bytes: int) -> list[Hashable]:
        """Which idle replicas to end though nobody needs their room now: what is past the budget, least worth first,
        and what is worth less than LEAST_WORTH. A key once a replica."""
        ended: list[Hashable] = []
        for replica in self._endable(warm, now_s):
            if used_bytes > budget_bytes or replica.worth < LEAST_WORTH:
                used_bytes -= replica.memory_bytes
                ended.append(replica.key)
        return ended

    def to_start(self, warm: Sequence[Candidate], now_s: float, *, free_bytes: int) -> Hashable | None:
        """The model to start ahead of its next call, if any: its call is likely to come soon, and there is room or
        make_room() finds some among what is worth clearly less. One a turn, for a bounded share of the time.

        `warm` has all that is warm or starting: what was in it once and no longer is, is asleep. The work is bounded:
        an asleep model is looked at when its outlook changes, which becomes rarer the longer it sleeps.
        """
        self._note_who_sleeps({candidate.key for candidate in warm}, now_s)
        self._earn(now_s)
        endable: list[Replica] | None = None
        for key in self._due(now_s):
            model = self._models[key]
            if model.cold_start_s > self._allowance_s or not model.is_expected(now_s):
                continue
            if endable is None:
                endable = self._endable(warm, now_s)
            others = fewest(endable, model.memory_bytes - free_bytes)
            if others is not None and model.is_worth_more(others, now_s):
                self._allowance_s -= model.cold_start_s
                return key
        return None

    def _endable(self, warm: Iterable[Candidate], now_s: float) -> list[Replica]:
        """The replicas that may be ended, least worth first."""
        replicas = []
        for candidate in warm:
            key, memory_bytes, count, idle_count, floor = candidate
            worth = self.worth(key, memory_bytes, now_s) * _NEXT_REPLICA ** (count - 1)
            for _ in range(min(idle_count, count - floor)):
                replicas.append(Replica(worth, memory_bytes, key))
                worth /= _NEXT_REPLICA
        replicas.sort(key=_worth_of)
        return replicas

    # Starting ahead.

    def _earn(self, now_s: float) -> None:
        """The time that starts ahead may take grows with time, up to a bound."""
        if not math.isnan(self._allowed_at_s):
            earned_s = (now_s - self._allowed_at_s) * _AHEAD_SHARE
            self._allowance_s = min(_AHEAD_SAVED_S, self._allowance_s + earned_s)
        self._allowed_at_s = now_s

    def _note_who_sleeps(self, warm: set[Hashable], now_s: float) -> None:
        for key in self._warm - warm:
            if model := self._models.get(key):
                self._look_at(key, model, now_s)
        self._warm = warm

    def _look_at(self, key: Hashable, model: _Model, at_s: float) -> None:
        model.look_s = at_s
        if at_s < math.inf:
            self._pushed += 1  # keys need not have an order
            heapq.heappush(self._looks, (at_s, self._pushed, key))

    def _due(self, now_s: float) -> Iterator[Hashable]:
        """The models, asleep, whose outlook has changed. Each is looked at again at its next change."""
        for _ in range(_LOOKS_A_TURN):
            if not self._looks or self._looks[0][0] > now_s:
                return
            look_s, _, key = heapq.heappop(self._looks)
            model = self._models.get(key)
            if model is None or model.look_s != look_s or key in self._warm:
                continue
            self._look_at(key, model, model.last_s + next_edge_s(now_s - model.last_s))
            yield key
