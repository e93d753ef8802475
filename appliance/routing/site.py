"""What this node has learned of one model version at one node, itself or a peer. Runs in the gateway; no I/O."""

from appliance.routing.breaker import Breaker
from appliance.routing.correction import Correction
from appliance.routing.own_work import OwnWork
from federation.messages import ModelState

# Of a load that was begun so long ago something would have been heard.
_LOAD_S = 60.0


class Site:
    __slots__ = ("_loading_since_s", "breaker", "correction", "own", "state")

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.correction = Correction()
        self.own = OwnWork()
        self.state: ModelState | None = None
        self._loading_since_s = 0.0  # 0: no load that is known of

    def told(self, state: ModelState, now_s: float, rtt_s: float) -> None:
        """How it fares now; the same object as before is no news."""
        if state is not self.state:
            self.state = state
            self.own.told(now_s, rtt_s)
            if state.replicas:
                self._loading_since_s = 0.0

    def loads(self, now_s: float) -> None:
        """A load begins there."""
        if not self.is_loading(now_s):
            self._loading_since_s = now_s

    def does_not_load(self) -> None:
        """What was thought to load does not."""
        self._loading_since_s = 0.0

    def is_loading(self, now_s: float) -> bool:
        """Whether a load is under way there that is known of here."""
        return self._loading_since_s > 0.0 and now_s - self._loading_since_s < _LOAD_S

    def load_left_s(self, cold_start_s: float, now_s: float) -> tuple[float, bool]:
        """What is left of a cold start, and whether it is under way."""
        if not self.is_loading(now_s):
            return cold_start_s, False
        return max(0.0, cold_start_s - (now_s - self._loading_since_s)), True
