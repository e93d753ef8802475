"""A process that the zygote made, as the gateway holds it: by pidfd, so that no other is ever hit.

Runs in the gateway's event loop.
"""

import asyncio
import contextlib
import os
import signal


class Child:
    """From the fork to the reaping. `end_reason` says, as half a sentence, what it ended of."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.end_reason = ""
        self.blameless = False  # it went down with the zygote, whatever it was doing
        self.ended = asyncio.Event()
        self._pidfd = -1
        self._kill_wanted = False

    def forked(self, pid: int, pidfd: int) -> None:
        """The zygote's word that it runs. Takes the pidfd over."""
        self.pid, self._pidfd = pid, pidfd
        if self._kill_wanted:
            self._signal()

    def kill(self, reason: str = "") -> None:
        """SIGKILL now, or as soon as it is forked; `reason` is kept as what it ended of."""
        self.end_reason = self.end_reason or reason
        self._signal()

    def _signal(self) -> None:
        self._kill_wanted = True
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def reaped(self, status: int) -> None:
        """The process is no more; `status` is as waitpid's."""
        if not self.end_reason and os.WIFSIGNALED(status):
            self.end_reason = f"it was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        elif not self.end_reason:
            self.end_reason = f"it ended with status {os.waitstatus_to_exitcode(status)}"
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.ended.set()

    def fork_failed(self, reason: str) -> None:
        """It never ran."""
        self.end_reason = reason
        self.ended.set()
