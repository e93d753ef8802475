"""How many bytes of calls this gateway holds at once, over all fronts, and what is said beyond the bound.

Runs in the gateway's event loop. Each call's body counts from when it is begun to be read until its answer is known.
"""

from appliance.core.errors import UnavailableError

_COME_AGAIN_S = 1.0


class HeldBytes:
    """The ledger. A single body is always taken: how large one may be is another bound."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Counts so many bytes in. Raises UnavailableError where they are too many, and then counts nothing."""
        if self.held_bytes + size_bytes > self.limit_bytes and self.held_bytes:
            raise UnavailableError(
                f"the node holds {self.held_bytes} bytes of other calls and takes {self.limit_bytes} at once: come "
                "back in a moment",
                retry_after_s=_COME_AGAIN_S,
            )
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
