"""The front processes of a node as the main process sees them: started, started again, told to stop.

Runs in the gateway's event loop. One that is lost takes its own connections with it and nothing else; it is started
again, later each time it is lost again soon.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path

from appliance.core.addresses import Address
from appliance.core.own_program import own_command
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.front_desk import FrontDesk
from appliance.gateway.front_frames import REGION_BYTES, FrontKind, Hello, Stop, decode_ready
from appliance.gateway.front_link import FrontLink
from appliance.gateway.front_process import GRPC_SOCKET, HTTP_SOCKET
from appliance.gateway.grpc_front import GrpcFront
from appliance.gateway.http import HttpFront
from appliance.security.tls import Tls

START_TIMEOUT_S = 30.0
_BACKOFF_S = (0.0, 0.1, 0.5, 2.0, 5.0)
_STEADY_S = 30.0  # one that lived so long has not failed to start
_END_S = 2.0

_log = logging.getLogger("ingle.fronts")


def _environment() -> dict[str, str]:
    """The node's own but for its settings, and the same code as this process has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGLE_")}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Fronts:
    """`count` processes on the same addresses. start() and stop() once each."""

    def __init__(
        self,
        dataplane: DataPlane,
        count: int,
        http: Address | None,
        grpc: Address | None,
        tls: Tls | None,
        folder: Path,
    ) -> None:
        """`folder` is for the private sockets; it is made, for this user alone. Raises OSError."""
        self._dataplane = dataplane
        self._count = count
        self._tls = tls
        self._asked = (http, grpc)
        self._held: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._fronts: set[_Front] = set()
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        self.folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        private = [f"/proc/self/fd/{self.folder_fd}/{name}" for name in (HTTP_SOCKET, GRPC_SOCKET)]
        for path in private:
            Path(path).unlink(missing_ok=True)
        self._http = HttpFront(dataplane, http, tls, private_path=private[0]) if http else None
        self._grpc = GrpcFront(dataplane, grpc, private_path=private[1]) if grpc else None
        self.hello = Hello("", "", "", 1, 0, 0, 0)

    @property
    def pids(self) -> list[int]:
        """Of those that run."""
        return [front.pid for front in self._fronts]

    async def start(self) -> tuple[int, int]:
        """Has all of them listen; the ports of HTTP and gRPC, 0 for one that is off. Raises OSError where an address
        cannot be had or a process does not come up."""
        http, grpc = (address and self._hold(address) for address in self._asked)
        if self._http is not None:
            await self._http.start()
        if self._grpc is not None:
            await self._grpc.start()
        tls, settings = self._tls, self._dataplane.settings
        self.hello = Hello(
            self._dataplane.node_name,
            str(http or ""),
            str(grpc or ""),
            self._count,
            settings.max_body_bytes,
            settings.max_connections,
            self._dataplane.held.limit_bytes,
            tls and (str(tls.chain_file), str(tls.key_file), tls.chain, tls.key),
        )
        first = [_Front(self, self._dataplane) for _ in range(self._count)]
        await asyncio.gather(*(front.start() for front in first))
        self._tasks = [asyncio.create_task(self._keep(front)) for front in first]
        return (http.port if http else 0), (grpc.port if grpc else 0)

    def _hold(self, address: Address) -> Address:
        """Keeps the address for this node's fronts; the one it really is."""
        # SO_REUSEPORT lets another node of this user in as well: so it is asked for without, first.
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
            port = probe.getsockname()[1]
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address.host, port))  # bound, and never listening: the kernel gives it no connection
        self._held.append(held)
        return Address(address.host, port)

    async def _keep(self, front: "_Front") -> None:
        """Starts a front again as often as it is lost."""
        losses = 0
        while True:
            await front.ended.wait()
            if self._stopping:
                return
            losses = 0 if time.monotonic() - front.started_s > _STEADY_S else losses
            wait_s = _BACKOFF_S[min(losses, len(_BACKOFF_S) - 1)]
            losses += 1
            _log.warning("front process %d was lost: another is started in %g s", front.pid, wait_s)
            await asyncio.sleep(wait_s)
            front = _Front(self, self._dataplane)
            try:
                await front.start()
            except OSError as error:
                _log.error("a front process could not be started: %s", error)

    def entered(self, front: "_Front") -> None:
        self._fronts.add(front)

    def left(self, front: "_Front") -> None:
        self._fronts.discard(front)

    async def stop(self, grace_s: float) -> None:
        """Has the fronts close their ports, finish what they have within `grace_s` seconds, and end."""
        self._stopping = True
        relayed = () if self._grpc is None else (self._grpc.stop(grace_s),)  # ends the streams that fronts relay
        await asyncio.gather(*(front.stop(grace_s) for front in list(self._fronts)), *relayed)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.stop()
        for held in self._held:
            held.close()
        os.close(self.folder_fd)


class _Front:
    """One front process, from its start to its end."""

    def __init__(self, fronts: Fronts, dataplane: DataPlane) -> None:
        self._fronts = fronts
        self._dataplane = dataplane
        self._process: Process | None = None
        self._link: FrontLink | None = None
        self._desk: FrontDesk | None = None
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reaping: asyncio.Task[None] | None = None
        self.started_s = time.monotonic()
        self.ended = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Returns once it listens. Raises OSError where it does not come up."""
        try:
            await self._start()
        except BaseException:
            if self._process is None:
                self.ended.set()
            else:
                self._kill()
            raise

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        region_fd = os.memfd_create("ingle-front", os.MFD_CLOEXEC)
        os.ftruncate(region_fd, REGION_BYTES)
        with theirs:
            fds = (theirs.fileno(), region_fd, self._fronts.folder_fd)
            self._process = await asyncio.create_subprocess_exec(
                *own_command("front", *map(str, fds)),
                pass_fds=fds,
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for the main process, which drains first
            )
        self._fronts.entered(self)
        self._reaping = asyncio.create_task(self._reap())

        def made(link: FrontLink) -> None:
            self._link = link
            self._desk = FrontDesk(self._dataplane, link, region_fd, REGION_BYTES)
            os.close(region_fd)
            link.say(FrontKind.HELLO, self._fronts.hello)

        await asyncio.get_running_loop().create_unix_connection(
            lambda: FrontLink(made, self._on_frame, self._on_lost), sock=ours
        )
        try:
            error = await asyncio.wait_for(self._ready, START_TIMEOUT_S)
        except TimeoutError:
            raise OSError(f"a front process was not ready after {START_TIMEOUT_S:g} s") from None
        if error:
            raise OSError(error)

    def _on_frame(self, kind: int, head: memoryview, body: bytes) -> None:
        """A frame until it is ready: it may have taken a call before it could say so."""
        assert self._link is not None
        assert self._desk is not None
        if kind != FrontKind.READY:
            self._desk.on_frame(kind, head, body)
        elif not self._ready.done():
            self._ready.set_result(decode_ready(head).error)
            self._link.on_any_frame = self._desk.on_frame

    def _on_lost(self) -> None:
        """Its socket has ended: whoever waited there waits no more, and what may still run of it is ended."""
        if self._desk is not None:
            self._desk.close()
        if not self._ready.done():
            self._ready.set_result("a front process ended before it was ready: its output says why")
        if not self._fronts._stopping:
            self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _reap(self) -> None:
        assert self._process is not None
        await self._process.wait()
        self._fronts.left(self)
        if self._link is not None:
            self._link.close()
        self.ended.set()

    async def stop(self, grace_s: float) -> None:
        """Asks it to end, and sees to it that it does."""
        if self._link is not None:
            self._link.say(FrontKind.STOP, Stop(grace_s))
        try:
            await asyncio.wait_for(self.ended.wait(), grace_s + _END_S)
        except TimeoutError:
            self._kill()
            await self.ended.wait()
