"""A process that the zygote made, as the gateway holds it: by pidfd, so that no other is ever hit.

Runs in the gateway's event loop.
"""

import asyncio
import contextlib
import os
import signal

from appliance.workers.link import Link


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


class LinkedChild(Child):
    """One that is spoken to over a socket. It is lost, once, when it is reaped and its socket is read to the end: only
    then is it known what it answered and what it ended of."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.link: Link | None = None
        self._socket_closed = False
        self.lost = False

    def on_socket_closed(self) -> None:
        """It has closed its end, or the gateway its own. What still runs of it is ended."""
        self._signal()
        self._socket_closed = True
        self._lost_if_gone()

    def reaped(self, status: int) -> None:
        super().reaped(status)
        self._lost_if_gone()

    def fork_failed(self, reason: str) -> None:
        super().fork_failed(reason)
        if self.link is not None:
            self.link.close()
        self._socket_closed = True
        self._lost_if_gone()

    def _lost_if_gone(self) -> None:
        if self.ended.is_set() and self._socket_closed and not self.lost:
            self.lost = True
            self._when_lost()

    def _when_lost(self) -> None:
        """Told once."""
        raise NotImplementedError
