"""What this node has sent to another of one model, and is not in what that one told of its backlog yet. Pure.

Without it every node would send all its calls to whichever looked idle last, until it said otherwise.
"""

from collections import deque


class Parcel:
    """One call that was sent. `counted`: it is not answered, and not in the backlog that was told."""

    __slots__ = ("counted", "sent_at_s", "work_s")

    def __init__(self, sent_at_s: float, work_s: float) -> None:
        self.sent_at_s = sent_at_s
        self.work_s = work_s
        self.counted = True


class OwnWork:
    __slots__ = ("_parcels", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._parcels: deque[Parcel] = deque()

    def sent(self, now_s: float, work_s: float) -> Parcel:
        """A call is on its way, and will take so long of a worker's time. `now_s` never goes back."""
        parcel = Parcel(now_s, work_s)
        self._parcels.append(parcel)
        self.seconds += work_s
        return parcel

    def done(self, parcel: Parcel) -> None:
        """It was answered, failed, lost or given up."""
        if parcel.counted:
            self._uncount(parcel)
        self._drop_done()

    def told(self, heard_at_s: float, rtt_s: float) -> None:
        """The other's backlog came in: what was sent a round trip before is in it."""
        parcels = self._parcels
        known_until_s = heard_at_s - rtt_s
        while parcels and (not parcels[0].counted or parcels[0].sent_at_s <= known_until_s):
            parcel = parcels.popleft()
            if parcel.counted:
                self._uncount(parcel)

    def _uncount(self, parcel: Parcel) -> None:
        parcel.counted = False
        self.seconds -= parcel.work_s

    def _drop_done(self) -> None:
        parcels = self._parcels
        while parcels and not parcels[0].counted:
            parcels.popleft()
        if not parcels:
            self.seconds = 0.0  # sums of floats drift
