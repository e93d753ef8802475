"""Which version answers a call that names none, and whether a new version is to be taken back. Pure decisions.

Runs in the gateway. Shares are kept exactly and without chance: of a hundred calls a share of 0.05 gets five, evenly.
"""

from typing import NamedTuple

from appliance.core.traffic import Traffic


class Share:
    """take() is true for this share of the times that it is asked, evenly spread."""

    __slots__ = ("_owed", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._owed = 0.0

    def take(self) -> bool:
        self._owed += self._share
        if self._owed < 1.0 - 1e-9:
            return False
        self._owed -= 1.0
        return True


class Tally(NamedTuple):
    """What became of a version's calls over some time. `failed` are those that the version itself is to blame for."""

    answered: int = 0
    failed: int = 0
    answered_s: float = 0.0  # the sum of the answered calls' times

    @property
    def calls(self) -> int:
        return self.answered + self.failed

    @property
    def mean_s(self) -> float:
        return self.answered_s / self.answered if self.answered else 0.0

    def since(self, before: "Tally") -> "Tally":
        """What came after `before`; all of it where the version's counters have begun anew since."""
        if self.calls < before.calls:
            return self
        return Tally(self.answered - before.answered, self.failed - before.failed, self.answered_s - before.answered_s)


def judge(new: Tally, steady: Tally, wish: Traffic) -> str:
    """Why the new version is to be taken back, as half a sentence, or an empty string.

    `new` and `steady` are tallies of the same time where both had calls. Too few calls say nothing. The error share is
    judged by itself, the latency against the steady version's mean.
    """
    if new.calls < wish.least_calls:
        return ""
    share = new.failed / new.calls
    if wish.max_error_share and share > wish.max_error_share:
        return (
            f"{share:.1%} of its {new.calls} calls failed, more than the {wish.max_error_share:.1%} that were allowed"
        )
    if wish.max_latency_ratio and steady.mean_s and new.mean_s > wish.max_latency_ratio * steady.mean_s:
        return (
            f"its calls took {new.mean_s * 1e3:.3g} ms on average, {new.mean_s / steady.mean_s:.2g} times the "
            f"{steady.mean_s * 1e3:.3g} ms of the version beside it, and {wish.max_latency_ratio:.2g} times is allowed"
        )
    return ""
