"""Whether a node is asked at all for a model whose calls fail there. Pure; runs in the gateway.

A node that fails fast looks idle, and would be given every call. One breaker for each model and node.
"""

FAILURES = 3  # in a row
FIRST_OPEN_S = 1.0
MAX_OPEN_S = 30.0


class Breaker:
    """Closed, calls go there. After FAILURES in a row it opens for a time; then one call at a time probes, and the
    first that is answered closes it. Each failed probe doubles the time, up to MAX_OPEN_S."""

    __slots__ = ("_failures", "_open_s", "_open_until_s", "_probed_at_s")

    def __init__(self) -> None:
        self._failures = 0
        self._open_s = 0.0
        self._open_until_s = 0.0
        self._probed_at_s = -MAX_OPEN_S

    def passes(self, now_s: float) -> bool:
        """Whether a call may go there: it is closed, or a probe is due."""
        if not self._open_s:
            return True
        # A probe that was never heard of again is not waited for for ever.
        return now_s >= self._open_until_s and now_s - self._probed_at_s >= self._open_s

    def asked(self, now_s: float) -> None:
        """A call goes there. While the breaker is open it is the probe."""
        if self._open_s and now_s >= self._open_until_s:
            self._probed_at_s = now_s

    def succeeded(self) -> None:
        """The node answered; what is the caller's own fault is an answer too."""
        if self._failures:
            self._failures = 0
            self._open_s = 0.0

    def failed(self, now_s: float) -> None:
        """The node's own fault, or its refusal to take the call."""
        self._failures += 1
        if self._open_s and now_s < self._open_until_s:
            return  # one of those that were under way when it opened
        if self._failures >= FAILURES:
            self._open_s = min(MAX_OPEN_S, self._open_s * 2) if self._open_s else FIRST_OPEN_S
            self._open_until_s = now_s + self._open_s
            self._probed_at_s = now_s - MAX_OPEN_S
