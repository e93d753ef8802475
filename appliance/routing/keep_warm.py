"""Which models stay in memory: each one's worth, whom to end to make room, whom to end early, whom to start ahead.

Runs in the gateway, on one thread; all times are seconds of one monotonic clock that the caller reads. What is warm is
a cache: a replica is worth the seconds of cold start that it is expected to save, for each byte and second that it
stays (greedy-dual, as in FaasCache). The expectation is of the model's own idle times (call_history.py) and falls as
it idles, so no cache-wide age is needed. Knows nothing of processes: routing's scheduler performs what is said here.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from appliance.routing.agenda import Agenda
from appliance.routing.call_history import CallHistory

MAX_REMEMBERED = 65_536  # models; the longest uncalled is forgotten first
UNKNOWN_COLD_START_S = 0.5  # of a model whose start was never measured
# Memory has a price even when nobody else wants it, since the box may have other uses: one second of cold start, saved,
# for a gigabyte kept for an hour.
LEAST_WORTH = 1.0 / (1e9 * 3600)
_NEXT_REPLICA = 0.5  # the worth of a second replica against the first, of a third against the second
# A start ahead costs processor time and displaces others, so it must be likely to be used soon and clearly better.
_AHEAD_S = 300.0
_AHEAD_CHANCE = 0.5
_AHEAD_GAIN = 2.0
_AHEAD_SHARE = 0.05  # of the time may go into starts ahead,
_AHEAD_SAVED_S = 60.0  # of which so much may be saved up
_LOOKS_A_TURN = 64


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
    """What is remembered of one model."""

    __slots__ = ("calls", "cold_start_s", "memory_bytes")

    def __init__(self) -> None:
        self.calls: CallHistory | None = None
        self.cold_start_s = UNKNOWN_COLD_START_S
        self.memory_bytes = 0  # unknown

    def saved_per_s(self, now_s: float) -> float:
        """Seconds of cold start, a second, that keeping it warm is expected to save."""
        return self.calls.rate_per_s(now_s) * self.cold_start_s if self.calls else 0.0


class _Allowance:
    """Seconds that starts ahead may take: a share of the time that passes, saved up to a bound."""

    def __init__(self) -> None:
        self.left_s = _AHEAD_SAVED_S
        self._earned_at_s: float | None = None

    def earn(self, now_s: float) -> None:
        passed_s = now_s - self._earned_at_s if self._earned_at_s is not None else 0.0
        self.left_s = min(_AHEAD_SAVED_S, self.left_s + passed_s * _AHEAD_SHARE)
        self._earned_at_s = now_s


class KeepWarm:
    def __init__(self, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._models: dict[Hashable, _Model] = {}  # the longest uncalled first
        self._warm: set[Hashable] = set()  # at the last to_start()
        self._asleep = Agenda()
        self._allowance = _Allowance()

    # What is known.

    def called(self, key: Hashable, now_s: float) -> None:
        """A call arrived, or several at once. Far below a microsecond for a busy model."""
        model = self._models.get(key) or self._remember(key)
        if model.calls is None:
            model.calls = CallHistory(now_s)
        elif model.calls.called(now_s):
            self._models[key] = self._models.pop(key)

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
        self._asleep.drop(key)

    def _remember(self, key: Hashable) -> _Model:
        if len(self._models) >= self._max_remembered:
            self.forget(next(iter(self._models)))
        model = self._models[key] = _Model()
        return model

    # What follows.

    def worth(self, key: Hashable, memory_bytes: int, now_s: float) -> float:
        """Seconds of cold start that keeping one replica is expected to save, a byte and second."""
        model = self._models.get(key)
        return model.saved_per_s(now_s) / max(1, memory_bytes) if model else 0.0

    def worth_of_next(self, key: Hashable, memory_bytes: int, replicas: int, now_s: float) -> float:
        """The same of one more beside so many replicas."""
        return self.worth(key, memory_bytes, now_s) * _NEXT_REPLICA**replicas

    def make_room(
        self,
        warm: Iterable[Candidate],
        need_bytes: int,
        now_s: float,
        *,
        for_key: Hashable,
        worth_below: float = math.inf,
    ) -> list[Hashable] | None:
        """Which idle replicas to end so that `need_bytes` come free, least worth first: a key once a replica.

        Never `for_key`'s own, and none that is worth `worth_below` or more. None where all that may be ended does not
        suffice.
        """
        if need_bytes <= 0:
            return []
        endable = self._endable((other for other in warm if other.key != for_key), now_s)
        chosen = fewest([replica for replica in endable if replica.worth < worth_below], need_bytes)
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
        self._allowance.earn(now_s)
        endable: list[Replica] | None = None
        for key in self._asleep.due(now_s, most=_LOOKS_A_TURN):
            model = self._models.get(key)
            if model is None or model.calls is None:
                continue
            self._asleep.put(key, model.calls.next_change_s(now_s))
            if model.cold_start_s > self._allowance.left_s or model.calls.chance(_AHEAD_S, now_s) < _AHEAD_CHANCE:
                continue
            if endable is None:
                endable = self._endable(warm, now_s)
            others = fewest(endable, model.memory_bytes - free_bytes)
            if others is not None and _pays(model, others, now_s):
                self._allowance.left_s -= model.cold_start_s
                return key
        return None

    def _note_who_sleeps(self, warm: set[Hashable], now_s: float) -> None:
        for key in self._warm - warm:
            self._asleep.put(key, now_s)
        for key in warm - self._warm:
            self._asleep.drop(key)
        self._warm = warm

    def _endable(self, warm: Iterable[Candidate], now_s: float) -> list[Replica]:
        """The replicas that may be ended, least worth first."""
        replicas = []
        for candidate in warm:
            key, memory_bytes, count, idle_count, floor = candidate
            worth = self.worth_of_next(key, memory_bytes, count - 1, now_s)
            for _ in range(min(idle_count, count - floor)):
                replicas.append(Replica(worth, memory_bytes, key))
                worth /= _NEXT_REPLICA
        replicas.sort(key=_worth_of)
        return replicas


def _pays(model: _Model, others: Iterable[Replica], now_s: float) -> bool:
    """Whether the model warm is worth clearly more than the others that must end for it, and than its memory."""
    lost_per_s = sum(other.worth * other.memory_bytes for other in others)
    return model.saved_per_s(now_s) >= _AHEAD_GAIN * max(lost_per_s, LEAST_WORTH * model.memory_bytes)
