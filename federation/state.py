"""What nodes say of how they fare: this node's states, numbered and sent where they changed enough, and a peer's, put
together again. Pure; knows neither links nor who is alive.

"Enough", against what was told last: a model that came or went, other replicas, another word of refusal, other engines;
its backlog by
5 ms and a fifth; run times, cold starts and the p95 by a tenth; of the load the backlog by 5 ms and a fifth, calls in
flight by two and a fifth, memory by 16 MiB and a twentieth, the share of the cores by 0.1, power by 5 W and a tenth,
temperature by 2 degrees. What differs less is told with the next state that is sent for another reason.
"""

import math
import re
from collections.abc import Mapping

from federation.messages import Engines, Load, ModelState, State

LEAST_INTERVAL_S = 0.075  # beats of 0.1 s, at which states are made, come a little early or late
# A node with more models than these tells of the loaded ones first; of the others a call finds out.
MAX_MODELS = 10_000
MAX_RUN_TIMES = 32
MAX_ROWS = 2**32
_MAX_KEY = 512
_DIGEST = re.compile(r"[0-9a-f]{64}")
# What a reply said of its model holds so long, if no state says otherwise: by then its sender has told what changed
# enough, and what it did not tell is as it was told before.
_PIGGYBACK_S = 0.5
# A state may be so much older than a reply that was sent just before it: it is made of what was published last.
_STATE_AGE_S = 0.1
_MIB = 1024 * 1024
_NOTHING_TOLD = ModelState()


def model_changed_enough(told: ModelState, now: ModelState) -> bool:
    return (
        now.replicas != told.replicas
        or now.refused != told.refused
        or now.engines != told.engines
        or _moved(told.backlog_s, now.backlog_s, least=0.005, share=0.2)
        or now.run_s.keys() != told.run_s.keys()
        or any(_moved(told.run_s[rows], run_s, least=0.0, share=0.1) for rows, run_s in now.run_s.items())
        or _moved(told.cold_start_s, now.cold_start_s, least=0.0, share=0.1)
        or _moved(told.p95_s, now.p95_s, least=0.0, share=0.1)
    )


def load_changed_enough(told: Load, now: Load) -> bool:
    return (
        _moved(told.backlog_s, now.backlog_s, least=0.005, share=0.2)
        or _moved(told.in_flight, now.in_flight, least=2, share=0.2)
        or _moved(told.memory_free_bytes, now.memory_free_bytes, least=16 * _MIB, share=0.05)
        or _moved(told.device_free_bytes, now.device_free_bytes, least=16 * _MIB, share=0.05)
        or _moved(told.cpu_share, now.cpu_share, least=0.1, share=0.0)
        or _moved(told.power_w, now.power_w, least=5.0, share=0.1)
        or _moved(told.temperature_c, now.temperature_c, least=2.0, share=0.0)
    )


def _moved(told: float, now: float, *, least: float, share: float) -> bool:
    return abs(now - told) > max(least, share * abs(told))


def credible_model(state: ModelState) -> bool:
    """Can a model be in this state at all? What cannot is not put before the router."""
    numbers = (state.replicas, state.backlog_s, state.cold_start_s, state.p95_s, *state.run_s.values())
    return (
        len(state.run_s) <= MAX_RUN_TIMES
        and len(state.refused) <= 1000
        and all(map(_is_quantity, numbers))
        and all(0 < rows <= MAX_ROWS for rows in state.run_s)  # they are divided by
        and (state.engines is None or _credible_engines(state.engines))
    )


def _credible_engines(engines: Engines) -> bool:
    return _DIGEST.fullmatch(engines.digest) is not None and 0 < engines.size_bytes < 2**53


def credible_load(load: Load) -> bool:
    numbers = (load.backlog_s, load.in_flight, load.memory_free_bytes, load.cpu_share)
    return all(map(_is_quantity, numbers)) and all(
        math.isfinite(number) for number in (load.device_free_bytes, load.power_w, load.temperature_c)
    )


def _is_quantity(number: float) -> bool:
    return 0 <= number < 1e18  # false for NaN


class OwnState:
    """What this node tells of itself: one row of numbers for all peers, so that one message serves all."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._number = 1  # the first is empty: who comes before anything is published gets it
        self._load, self._models = Load(), dict[str, ModelState]()  # as published last
        self._told_load, self._told = Load(), dict[str, ModelState]()
        self._is_compared = True
        self._sent_s = -math.inf

    @property
    def load(self) -> Load:
        return self._load

    @property
    def load_is_told(self) -> bool:
        return self._load == self._told_load

    def publish(self, load: Load, models: Mapping[str, ModelState]) -> None:
        """How it fares now. A model that is cold and of which nothing was measured need not be told."""
        chosen = {key: state for key, state in models.items() if state != _NOTHING_TOLD}
        if len(chosen) > MAX_MODELS:
            ranked = sorted(chosen, key=lambda key: (-chosen[key].replicas, key))
            chosen = {key: chosen[key] for key in ranked[:MAX_MODELS]}
        self._load, self._models, self._is_compared = load, chosen, False

    def due(self, now_s: float) -> State | None:
        """The state to be sent to all who have the last one, if enough changed and the last one is old enough."""
        if self._is_compared or now_s - self._sent_s < LEAST_INTERVAL_S:
            return None
        self._is_compared = True
        changed = {
            key: state
            for key, state in self._models.items()
            if (told := self._told.get(key)) is not state and (told is None or model_changed_enough(told, state))
        }
        gone = [key for key in self._told if key not in self._models]
        if not changed and not gone and not load_changed_enough(self._told_load, self._load):
            return None
        base, self._number, self._sent_s = self._number, self._number + 1, now_s
        self._told.update(changed)
        for key in gone:
            del self._told[key]
        self._told_load = self._load
        return State(self._epoch, self._number, base, self._load, changed, gone)

    def whole(self) -> State:
        """All that was told, under the last number: for one peer."""
        return State(self._epoch, self._number, 0, self._told_load, dict(self._told))


class HeardState:
    """What one peer told, and what its replies said since. `models` and `load` are what to believe now; `models` is the
    same dict for good."""

    def __init__(self) -> None:
        self.load = Load()
        self.models: dict[str, ModelState] = {}
        self._epoch = 0
        self._number = 0
        self._stated_load = Load()
        self._stated: dict[str, ModelState] = {}
        self._replied_s: dict[str, float] = {}  # by key: when a reply said what `models` says
        self._load_replied_s = -math.inf

    def clear(self) -> None:
        """It started anew, or is gone: nothing is known."""
        self._epoch = self._number = 0
        self._stated_load = self.load = Load()
        self._stated.clear()
        self.models.clear()
        self._replied_s.clear()
        self._load_replied_s = -math.inf

    def hear(self, state: State, epoch: int, now_s: float) -> bool:
        """False where a state in between was missed: all of it must be asked for. `epoch` is the incarnation that
        the sender has; a state of another is passed over, and so is one that is known already."""
        if state.epoch != epoch or (state.epoch == self._epoch and state.number <= self._number and state.base):
            return True
        if state.base == 0:
            gone = [key for key in self._stated if key not in state.models]
        elif (state.epoch, state.base) == (self._epoch, self._number):
            gone = state.gone
        else:
            return False
        self._epoch, self._number = state.epoch, state.number
        for key in gone:
            self._stated.pop(key, None)
            self._believe_state(key, now_s)
        for key, model in state.models.items():
            if len(key) <= _MAX_KEY and credible_model(model) and self._has_room(key):
                self._stated[key] = model
                self._believe_state(key, now_s)
        if credible_load(state.load):
            self._stated_load = state.load
            if now_s - self._load_replied_s > _STATE_AGE_S:
                self.load = state.load
        return True

    def reply_said(self, key: str, model: ModelState | None, load: Load | None, now_s: float) -> None:
        """What came with an answer is newer than any state before it."""
        if model is not None and credible_model(model) and (key in self.models or self._has_room(key)):
            self.models[key] = model
            self._replied_s[key] = now_s
        if load is not None and credible_load(load):
            self.load = load
            self._load_replied_s = now_s

    def pass_time(self, now_s: float) -> None:
        """What replies said a while ago gives way to what was stated."""
        for key in [key for key, replied_s in self._replied_s.items() if now_s - replied_s > _PIGGYBACK_S]:
            del self._replied_s[key]
            self._believe_state(key, now_s)
        if self._load_replied_s > -math.inf and now_s - self._load_replied_s > _PIGGYBACK_S:
            self._load_replied_s = -math.inf
            self.load = self._stated_load

    def _believe_state(self, key: str, now_s: float) -> None:
        if now_s - self._replied_s.get(key, -math.inf) <= _STATE_AGE_S:
            return
        self._replied_s.pop(key, None)
        if (stated := self._stated.get(key)) is not None:
            self.models[key] = stated
        else:
            self.models.pop(key, None)

    def _has_room(self, key: str) -> bool:
        return key in self._stated or len(self._stated) + len(self._replied_s) < MAX_MODELS
