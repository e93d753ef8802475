"""Hears from the kernel that links or addresses of this box changed: a netlink socket, read by the event loop.

Says only that something changed, never what: whoever listens looks for itself. Where the kernel gives no such socket
(some containers) nothing is heard, and listeners look now and then as they do anyway.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

_GROUPS = 0x1 | 0x10 | 0x100  # rtnetlink(7): RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_READ_BYTES = 65536


class InterfaceEvents:
    """Calls `on_change` in the loop that start() was called in, at least once after each change."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._socket: socket.socket | None = None

    def start(self) -> None:
        try:
            listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        except OSError:
            return
        try:
            listening.bind((0, _GROUPS))
        except OSError:
            listening.close()
            return
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening, self._read)

    def _read(self) -> None:
        assert self._socket is not None
        # What was lost for want of room (ENOBUFS) is a change too.
        with contextlib.suppress(OSError):
            while self._socket.recv(_READ_BYTES):
                pass
        self._on_change()

    def stop(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
