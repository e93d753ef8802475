"""The processes of this node: the zygote, started again when it is lost, and the children it forks.

Runs in the gateway's event loop. Knows how a process is made and ended, and nothing of models or calls.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable

from appliance.workers.child import Child
from appliance.workers.spec import Exited, ForkFailed, Ready, WorkerSpec
from appliance.workers.zygote_link import ZygoteLink

_BACKOFF_S = (0.0, 0.1, 0.5, 2.0, 5.0)
_MAX_LOG_LINE = 2000

_log = logging.getLogger("ingle.workers")


class Processes:
    """start(), fork() as often as wanted, stop(). `on_started_again` is called when a lost zygote was replaced."""

    def __init__(self) -> None:
        self.ready: Ready | None = None
        self.on_started_again: Callable[[], None] = lambda: None
        self._zygote: ZygoteLink | None = None
        self._children: dict[int, Child] = {}
        self._number = 0
        self._restart: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> Ready:
        """Starts the zygote; what it says of its runtime and sandbox. Raises OSError or TimeoutError."""
        self._zygote = ZygoteLink(
            on_forked=self._forked,
            on_exited=self._exited,
            on_fork_failed=self._fork_failed,
            on_gone=self._zygote_gone,
        )
        self.ready = await self._zygote.start()
        return self.ready

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def fork(self, spec: WorkerSpec, child: Child, region_fd: int, log: "deque[str]") -> socket.socket | None:
        """Asks for a process; the gateway's end of its socket, or None where no zygote is there to ask.

        In that case child.fork_failed() is called in the loop's next turn. What the process writes goes to `log`.
        Raises OSError where the system has no more descriptors.
        """
        ours, theirs = socket.socketpair()
        try:
            log_out, log_in = os.pipe()
        except OSError:
            ours.close()
            theirs.close()
            raise
        try:
            if self._zygote is None:
                raise ConnectionError("the zygote is not running")
            self._zygote.fork(spec, (theirs.fileno(), region_fd, log_in))
        except OSError as error:
            os.close(log_out)
            ours.close()
            asyncio.get_running_loop().call_soon(child.fork_failed, f"no process could be started: {error}")
            return None
        finally:
            theirs.close()
            os.close(log_in)
        self._children[spec.number] = child
        ours.setblocking(False)
        _LogReader(log_out, log)
        return ours

    def fork_alone(self, spec: WorkerSpec, child: Child, log: "deque[str]") -> socket.socket | None:
        """As fork(), for a process that shares no memory with the gateway."""
        no_region = os.memfd_create("ingle-none", os.MFD_CLOEXEC)
        try:
            return self.fork(spec, child, no_region, log)
        finally:
            os.close(no_region)

    def _forked(self, number: int, pid: int, pidfd: int) -> None:
        if child := self._children.get(number):
            child.forked(pid, pidfd)
        elif pidfd >= 0:
            os.close(pidfd)

    def _exited(self, word: Exited) -> None:
        if child := self._children.pop(word.number, None):
            child.reaped(word.status)

    def _fork_failed(self, word: ForkFailed) -> None:
        if child := self._children.pop(word.number, None):
            child.fork_failed(word.reason)

    def _zygote_gone(self) -> None:
        self.ready = None
        children, self._children = self._children, {}
        for child in children.values():
            child.end_reason = child.end_reason or "the process that starts workers was lost"
            child.blameless = True
            child.reaped(0)
        if not self._stopping and self._restart is None:
            _log.error("the zygote was lost, and its workers with it; starting another")
            self._restart = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        attempt = 0
        while not self._stopping:
            await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
            attempt += 1
            try:
                await self.start()
            except (OSError, TimeoutError) as error:
                _log.error("the zygote does not start: %s", error)
                continue
            self._restart = None
            self.on_started_again()
            return

    async def stop(self) -> None:
        """Ends the zygote, and with it every child."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.gather(self._restart, return_exceptions=True)
        if self._zygote is not None:
            await self._zygote.stop()


class _LogReader:
    """Splits what a process writes into lines, bounded, until it closes its end."""

    def __init__(self, fd: int, log: "deque[str]") -> None:
        self._fd, self._log, self._rest = fd, log, b""
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._fd, 65536)
            lines = (self._rest + data).split(b"\n")
            rest = lines.pop() if data else b""
            self._rest = rest[:_MAX_LOG_LINE]
            self._log.extend(line[:_MAX_LOG_LINE].decode(errors="replace") for line in lines if line)
            if not data:
                self._loop.remove_reader(self._fd)
                os.close(self._fd)
