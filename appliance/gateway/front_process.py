"""A front process: takes connections on the node's ports and passes what they ask to the main process.

Started by `exec` of a hidden verb, several to a node, each listening on the same ports (SO_REUSEPORT). It owns its
connections and nothing else: no keys, no catalogue, no workers. It ends with the main process.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from appliance.core.addresses import Address, parse_address
from appliance.core.machine import connections_allowed, descriptor_limit
from appliance.gateway.front_frames import (
    REGION_BYTES,
    FrontKind,
    Hello,
    Ready,
    decode_hello,
    decode_stop,
)
from appliance.gateway.front_http import RelayingFront
from appliance.gateway.front_link import FrontLink
from appliance.gateway.http_listener import listen, look
from appliance.gateway.remote_plane import RemotePlane
from appliance.observability.logs import set_up_logs
from appliance.sandbox import confine
from appliance.security.tls import Tls
from appliance.workers.region import SharedRegion

HTTP_SOCKET, GRPC_SOCKET = "http.sock", "grpc.sock"


class FrontProcess:
    """One front, from the main process's first word to its last."""

    def __init__(self, region_fd: int, folder_fd: int) -> None:
        self._region = SharedRegion(REGION_BYTES, region_fd)
        # The folder's own path may be longer than a Unix socket's address can be.
        self._folder = Path(f"/proc/self/fd/{folder_fd}")
        self._link: FrontLink
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._stop: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._plane: RemotePlane | None = None

    def on_frame(self, kind: int, head: memoryview, body: bytes) -> None:
        """A word of the main process."""
        if kind == FrontKind.HELLO:
            self._hello.set_result(decode_hello(head))
        elif kind == FrontKind.STOP:
            if not self._stop.done():
                self._stop.set_result(decode_stop(head).grace_s)
        elif self._plane is not None:
            self._plane.on_frame(kind, head, body)

    def on_lost(self) -> None:
        """The main process has gone."""
        if self._plane is not None:
            self._plane.lost()
        if not self._stop.done():
            self._stop.set_result(0.0)

    def _on_made(self, link: FrontLink) -> None:
        self._link = link

    async def run(self, sock: socket.socket) -> None:
        """Serves until the main process says to stop, or has gone."""
        await asyncio.get_running_loop().create_unix_connection(
            lambda: FrontLink(self._on_made, self.on_frame, self.on_lost), sock=sock
        )
        first: set[asyncio.Future[Any]] = {self._hello, self._stop}
        done, _ = await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if self._hello not in done:
            return
        hello = self._hello.result()
        held_bytes = hello.max_held_bytes // hello.share
        self._plane = plane = RemotePlane(self._link, self._region, hello.node_name, held_bytes)
        connections = min(hello.max_connections, connections_allowed(descriptor_limit()))
        main_path = str(self._folder / HTTP_SOCKET)
        http = RelayingFront(plane, main_path, hello.max_body_bytes, -(-connections // hello.share))
        tls = hello.tls and _tls(*hello.tls)
        listener, grpc_server = None, None
        try:
            if (address := _address(hello.http)) is not None:
                listener = await listen(http, address, tls, share_port=True)
            if (address := _address(hello.grpc)) is not None:
                grpc_server = await _start_grpc(plane, address, tls, self._folder, hello)
        except OSError as error:
            self._link.say(FrontKind.READY, Ready(str(error)))
            await self._stop
            return
        sweep = asyncio.create_task(look(http))
        gc.collect()
        gc.freeze()
        self._link.say(FrontKind.READY, Ready())
        grace_s = await self._stop
        sweep.cancel()
        if listener is not None:
            listener.close()
        if grpc_server is not None:
            await grpc_server.stop(grace_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(plane.idle(), grace_s)
        http.close()
        await asyncio.sleep(0)  # what was written leaves


async def _start_grpc(plane: RemotePlane, address: Address, tls: Tls | None, folder: Path, hello: Hello) -> Any:
    # Only where it is wanted: gRPC's library is most of what a front process weighs.
    from appliance.gateway.grpc_library import add_port, make_server
    from appliance.gateway.grpc_relay import GrpcRelay, handlers

    server = make_server(hello.max_body_bytes, hello.max_connections, share=hello.share)
    server.add_generic_rpc_handlers(handlers(plane, GrpcRelay(str(folder / GRPC_SOCKET))))
    add_port(server, str(address), tls)
    await server.start()
    return server


def _address(text: str) -> Address | None:
    return parse_address(text) if text else None


def _tls(chain_file: str, key_file: str, chain: bytes, key: bytes) -> Tls:
    return Tls(Path(chain_file), Path(key_file), chain, key, "")


async def _main(control_fd: int, region_fd: int, folder_fd: int) -> None:
    await FrontProcess(region_fd, folder_fd).run(socket.socket(fileno=control_fd))


def main(control_fd: str, region_fd: str, folder_fd: str) -> None:
    """The role's body, given three descriptors by number: a stream socket to the main process, the memory that both
    share, and the folder of the main process's private sockets."""
    confine.die_with_parent()
    confine.forbid_new_privileges()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle: it drains first
    set_up_logs()
    uvloop.run(_main(int(control_fd), int(region_fd), int(folder_fd)))


if __name__ == "__main__":
    main(*sys.argv[1:])
