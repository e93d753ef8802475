"""The last calls this node answered or refused: `/v1/calls/{id}` says where a call went and its time with it.

Runs in the gateway. Filled on the hot path: one struct and one append, under a microsecond; looked up seldom, so the
look-up walks. Knows nothing of models beyond their names, and forgets: what must last is the audit's.
"""

from collections import deque
from collections.abc import Iterator

import msgspec

from appliance.core.requests import Seconds

REMEMBERED_CALLS = 4096


class CallRecord(msgspec.Struct, frozen=True, gc=False):
    """What became of one call. `status` is `ok` or an error's code, `error` that error's sentence."""

    id: str
    model: str
    version: str
    node: str
    status: str
    seconds: Seconds
    at_s: float  # Unix time of the answer
    error: str = ""
    choice: object = None  # why it ran where it did: whoever put it there can explain it


class RecentCalls:
    """A ring of the newest records; a full ring drops the oldest."""

    def __init__(self, remembered: int = REMEMBERED_CALLS) -> None:
        self._ring: deque[CallRecord] = deque(maxlen=remembered)
        # The append itself, bound once: the data plane calls it for each answer.
        self.add = self._ring.append

    def find(self, call_id: str) -> CallRecord | None:
        """The record with this id, or None where it was never here or has been pushed out."""
        return next((record for record in reversed(self._ring) if record.id == call_id), None)

    def __iter__(self) -> Iterator[CallRecord]:
        """Newest first."""
        return reversed(self._ring)

    def __len__(self) -> int:
        return len(self._ring)
