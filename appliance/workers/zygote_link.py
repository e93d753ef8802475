"""The gateway's end of the zygote: starts it, asks it for processes, hears what became of them.

Runs in the gateway's event loop. When the zygote ends, `on_gone` is called, and every process it made is gone too.
"""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence

from appliance.core.own_program import own_command
from appliance.workers import spec as words
from appliance.workers.spec import Exited, Forked, ForkFailed, Ready, WorkerSpec

START_TIMEOUT_S = 60.0
_MAX_WORD_BYTES = 64 * 1024


def _environment() -> dict[str, str]:
    """What the zygote and so the models see: nothing of the owner's environment but where things are."""
    kept = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    # The same code as this process has, also when it is run from a checkout.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", ORT_DISABLE_TELEMETRY="1")
    return environment


class ZygoteLink:
    """One zygote process. `on_forked(number, pid, pidfd)` hands a pidfd over, which its receiver closes."""

    def __init__(
        self,
        *,
        on_forked: Callable[[int, int, int], None],
        on_exited: Callable[[Exited], None],
        on_fork_failed: Callable[[ForkFailed], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._on_forked = on_forked
        self._on_exited = on_exited
        self._on_fork_failed = on_fork_failed
        self._on_gone = on_gone
        self._process: Process | None = None
        self._control: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Ready] = self._loop.create_future()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> Ready:
        """Starts the process. Raises OSError or TimeoutError where it does not come up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *own_command("zygote", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for the gateway, which drains first
            )
        self._control = ours
        self._loop.add_reader(ours.fileno(), self._read)
        try:
            return await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_S)
        except TimeoutError:
            raise TimeoutError(f"the zygote was not ready after {START_TIMEOUT_S:.0f} s") from None

    def fork(self, spec: WorkerSpec, fds: Sequence[int]) -> None:
        """Asks for a process with these descriptors: socket, region, log. Raises OSError where there is no zygote."""
        if self._control is None:
            raise ConnectionError("the zygote is not running")
        spec_fd = os.memfd_create("ingle-spec", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(spec_fd), "wb") as file:
                file.write(words.encode(spec))
            socket.send_fds(self._control, [b"fork"], [spec_fd, *fds])
        finally:
            os.close(spec_fd)

    def _read(self) -> None:
        while self._control is not None:
            try:
                message, fds, _, _ = socket.recv_fds(self._control, _MAX_WORD_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                message, fds = b"", []
            if not message:
                self._gone()
                return
            self._hear(words.decode_word(message), fds)

    def _hear(self, word: words.ZygoteWord, fds: list[int]) -> None:
        if isinstance(word, Forked):
            # Without descriptors to spare none arrives; what cannot be killed still ends when its socket is closed.
            self._on_forked(word.number, word.pid, fds[0] if fds else -1)
        elif isinstance(word, Exited):
            self._on_exited(word)
        elif isinstance(word, ForkFailed):
            self._on_fork_failed(word)
        elif not self._ready.done():
            self._ready.set_result(word)

    def _gone(self) -> None:
        self._close_control()
        if not self._ready.done():
            self._ready.set_exception(ConnectionError("the zygote ended before it was ready: its output says why"))
        self._on_gone()

    def _close_control(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            self._control = None

    async def stop(self) -> None:
        """Closes the control socket, upon which the zygote ends and its children with it, and waits for that."""
        self._close_control()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), 5.0)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
