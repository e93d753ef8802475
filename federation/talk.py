"""What is kept of the talk with one peer: what it said of its state, how far it is, and when it was last asked what.
Pure; core.py decides what is said."""

import math

from federation.estimates import Estimates
from federation.peer import Peer
from federation.state import HeardState

# Of two that come to a third at one time neither is linked yet when the other gets its HELLO.
_SECOND_HINT_S = 0.3


class Talk:
    """Times are when something was last done; -inf: not since the link began."""

    def __init__(self) -> None:
        self.heard = HeardState()
        self.way = Estimates()
        self.start(-math.inf)

    def start(self, now_s: float) -> None:
        """A link begins or ends: what was told on the last one is void. How far the peer is need not have changed."""
        self.heard.clear()
        self.way.forget_outstanding()
        self.probed_s = -math.inf
        self.state_asked_s = -math.inf
        self.state_given_s = -math.inf
        self.hint_s = now_s + _SECOND_HINT_S  # when it is told again of whom this node has links with
        self.width_s = now_s  # when the way's width is to be measured again
        self.width_probes = 0  # how many are still to be sent of a measurement that has begun

    def show(self, peer: Peer) -> None:
        """What others read of it. `models` are the same dict already."""
        peer.load, peer.rtt_s, peer.bytes_per_s = self.heard.load, self.way.rtt_s, self.way.bytes_per_s
