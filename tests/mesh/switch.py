"""The switching process: an Ethernet switch between TAPs whose links have delay, jitter, loss, a rate, or are down.

Started by exec with one end of a socket pair, over which it is told what to do (lan.py); ends with whoever holds the
other end. Learns which port an address is at; what is for all, or for an address not seen yet, goes to every other
port, multicast too. Nothing of IP is looked at but to tell flows apart.
"""

import ctypes
import heapq
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from tests.mesh.interfaces import HEADER_BYTES, carry_large_frames
from tests.mesh.links import Conditions, Link, Wire
from tests.mesh.uplinks import Uplink, flow_of

_FRAME_BYTES = 65_600
_FRAMES_A_TURN = 32
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_TIMER = struct.Struct("@qqqq")


class Port:
    """One TAP. Its host can send `uplink_rate` bytes a second, 0 for no bound, and take what `downlink` carries."""

    def __init__(self, name: str, tap: int) -> None:
        self.name = name
        self.tap = tap
        self.uplink = Uplink()
        self.uplink_rate = 0.0
        self.sending = False
        self.sent_bytes = 0
        self.downlink = Wire()


class Timer:
    """A descriptor that is readable from a given time on; epoll's own timeout counts milliseconds."""

    def __init__(self) -> None:
        self.descriptor = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        self._set_s = 0.0

    def set(self, at_s: float) -> None:
        if at_s == self._set_s:
            return
        self._set_s = at_s
        at_ns = max(1, int(at_s * 1e9))
        value = _TIMER.pack(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        _libc.timerfd_settime(self.descriptor, 1, value, None)

    def passed(self) -> None:
        self._set_s = 0.0
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)


class Switch:
    """All ports, the links between them, and what is on its way."""

    def __init__(self, control: socket.socket, seed: str) -> None:
        self._control = control
        self._seed = seed
        self._ports: dict[int, Port] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._port_by_address: dict[bytes, Port] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._timer = Timer()
        self._epoll = select.epoll()
        self._epoll.register(control.fileno(), select.EPOLLIN)
        self._epoll.register(self._timer.descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Until the other end of the control socket is closed."""
        while True:
            for descriptor, _ in self._epoll.poll():
                port = self._ports.get(descriptor)
                if port is not None:
                    self._read(port)
                elif descriptor == self._timer.descriptor:
                    self._timer.passed()
                elif descriptor == self._control.fileno() and not self._obey():
                    return
            now_s = time.monotonic()
            while self._later and self._later[0][0] <= now_s:
                heapq.heappop(self._later)[2]()
            if self._later:
                self._timer.set(self._later[0][0])

    def _at(self, due_s: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._later, (due_s, self._number, act))

    # Frames

    def _read(self, port: Port) -> None:
        for _ in range(_FRAMES_A_TURN):
            try:
                frame = os.read(port.tap, _FRAME_BYTES)
            except BlockingIOError:
                return
            except OSError:  # its interface is down, or gone with its namespace
                self._unplug(port)
                return
            if not port.uplink_rate:
                self._forward(port, frame)
            elif port.uplink.put(frame, flow_of(frame[HEADER_BYTES : HEADER_BYTES + 64])) and not port.sending:
                self._send_next(port, time.monotonic())

    def _send_next(self, port: Port, free_s: float) -> None:
        """Sends what waits, from when the wire was free: a late turn of the loop must not slow it."""
        now_s = time.monotonic()
        while (frame := port.uplink.take()) is not None:
            free_s += (len(frame) - HEADER_BYTES) / port.uplink_rate if port.uplink_rate else 0.0
            if free_s > now_s:
                port.sending = True
                self._at(free_s, partial(self._sent, port, frame, free_s))
                return
            self._forward(port, frame)
        port.sending = False

    def _sent(self, port: Port, frame: bytes, free_s: float) -> None:
        self._forward(port, frame)
        self._send_next(port, free_s)

    def _forward(self, source: Port, frame: bytes) -> None:
        to, sender = frame[HEADER_BYTES : HEADER_BYTES + 6], frame[HEADER_BYTES + 6 : HEADER_BYTES + 12]
        self._port_by_address[sender] = source
        source.sent_bytes += len(frame) - HEADER_BYTES
        known = None if to[0] & 1 else self._port_by_address.get(to)
        now_s = time.monotonic()
        for port in (known,) if known is not None else tuple(self._ports.values()):
            if port is not source:
                self._carry(source, port, frame, now_s)

    def _carry(self, source: Port, port: Port, frame: bytes, now_s: float) -> None:
        size_bytes = len(frame) - HEADER_BYTES
        arrives_s = self._link(source.name, port.name).arrives_s(now_s, size_bytes)
        if arrives_s is None:
            return
        arrives_s = port.downlink.through_s(arrives_s, size_bytes)
        if arrives_s is None:
            return
        if arrives_s <= now_s:
            _write(port, frame)
        else:
            self._at(arrives_s, partial(_write, port, frame))

    def _link(self, source: str, destination: str) -> Link:
        link = self._links.get((source, destination))
        if link is None:
            link = self._links[source, destination] = Link(f"{self._seed} {source} {destination}")
        return link

    def _unplug(self, port: Port) -> None:
        self._epoll.unregister(port.tap)
        del self._ports[port.tap]
        self._port_by_address = {a: other for a, other in self._port_by_address.items() if other is not port}

    # Orders

    def _obey(self) -> bool:
        """Does what one message says and answers it, so that who asked knows it done. False at the end."""
        message, descriptors, _, _ = socket.recv_fds(self._control, 1 << 20, 1)
        if not message:
            return False
        order = json.loads(message)
        answer = getattr(self, f"do_{order.pop('do')}")(**order, **({"tap": descriptors[0]} if descriptors else {}))
        self._control.send(json.dumps(answer).encode())
        return True

    def do_plug(self, port: str, tap: int) -> None:
        self._ports[tap] = Port(port, tap)
        self._epoll.register(tap, select.EPOLLIN)

    def do_link(self, pairs: list[tuple[str, str]], conditions: dict[str, Any]) -> None:
        for source, destination in pairs:
            self._link(source, destination).change(Conditions(**conditions))
        self._choose_frames()

    def do_rate(self, ports: list[str], up_bytes_per_s: float, down_bytes_per_s: float) -> None:
        for port in self._ports.values():
            if port.name in ports:
                port.uplink_rate, port.downlink.rate_bytes_per_s = up_bytes_per_s, down_bytes_per_s

    def do_traffic(self) -> list[tuple[str, str, int, int, int]]:
        return [(*pair, link.frames, link.size_bytes, link.dropped) for pair, link in self._links.items()]

    def do_sent(self) -> dict[str, int]:
        return {port.name: port.sent_bytes for port in self._ports.values()}

    def _choose_frames(self) -> None:
        """Single segments wherever one may be lost by itself."""
        lossy = any(link.conditions.loss for link in self._links.values())
        for port in self._ports.values():
            carry_large_frames(port.tap, large=not lossy)


def _write(port: Port, frame: bytes) -> None:
    with suppress(OSError):  # a host that is going takes no more
        os.write(port.tap, frame)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it has still to tidy up
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        Switch(control, sys.argv[2]).run()


if __name__ == "__main__":
    main()
