"""A LAN in this machine: hosts, each a network namespace, plugged into one switching process.

    with Lan() as lan:
        a, b = lan.host("a"), lan.host("b")
        lan.link(a, b, delay_s=0.01)              # each direction is a link of its own
        with a.entered():
            socket.create_connection((b.ipv4, 80))

Needs root and /dev/net/tun (namespaces.why_not). What it makes has no names outside of it, so runs do not collide, and
goes with the process that made it. Runs in the test's or the benchmark's process.
"""

import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.mesh import interfaces
from tests.mesh.links import Conditions
from tests.mesh.namespaces import Namespace

ROOT = Path(__file__).resolve().parents[2]
INTERFACE = "lan0"
# Three segments: on a wire of 100 Mbit/s it is 0.36 ms long, and the switch has a third of the work.
_SLOW_FRAME_BYTES = 4500
_IPV4 = ipaddress.IPv4Network("10.77.0.0/24")
_IPV6 = ipaddress.IPv6Network("fd77::/64")


@dataclass(frozen=True)
class Host:
    """A box on the LAN, with one address of each family and a default route into the LAN."""

    name: str
    namespace: Namespace
    ipv4: str
    ipv6: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is on this host meanwhile: what it connects and starts. Other threads are not."""
        with self.namespace.entered():
            yield


@dataclass(frozen=True)
class Traffic:
    """What one link has carried in one direction, with Ethernet's heads, and dropped."""

    source: str
    destination: str
    frames: int
    size_bytes: int
    dropped: int


class Lan:
    """`seed` decides which frames are lost, and jitter."""

    def __init__(self, seed: int = 1) -> None:
        self._seed = seed
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        self._control, switchs_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(10)
        with switchs_end:
            command = [sys.executable, "-m", "tests.mesh.switch", str(switchs_end.fileno()), str(self._seed)]
            self._switch = subprocess.Popen(command, cwd=ROOT, pass_fds=[switchs_end.fileno()])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._control.close()
        for host in self.hosts.values():
            host.namespace.close()
        try:
            self._switch.wait(5)
        except subprocess.TimeoutExpired:
            self._switch.kill()
            self._switch.wait()

    def host(self, name: str) -> Host:
        """Plugs one in; it can be reached as soon as this returns."""
        number = len(self.hosts) + 1
        ipv4 = ipaddress.IPv4Interface((_IPV4[number], _IPV4.prefixlen))
        ipv6 = ipaddress.IPv6Interface((_IPV6[number], _IPV6.prefixlen))
        namespace = Namespace()
        host = self.hosts[name] = Host(name, namespace, str(ipv4.ip), str(ipv6.ip))
        with namespace.entered():
            tap = interfaces.open_tap(INTERFACE)
            try:
                interfaces.set_hardware_address(INTERFACE, bytes((2, 0x77, 0, 0, 0, number)))
                interfaces.add_ipv4(INTERFACE, ipv4)
                interfaces.bring_up(INTERFACE)
                interfaces.add_ipv6(INTERFACE, ipv6)
                interfaces.add_default_route(INTERFACE)
                self._order({"do": "plug", "port": name}, [tap])
            finally:
                os.close(tap)
        return host

    def link(
        self,
        source: Host,
        destination: Host,
        *,
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
        loss: float = 0.0,
        rate_bytes_per_s: float = 0.0,
        down: bool = False,
    ) -> None:
        """What the link in this direction is like from now on; what is not told is as on a quick wire."""
        conditions = Conditions(delay_s, jitter_s, loss, rate_bytes_per_s, down)
        self._change([(source.name, destination.name)], conditions)

    def around(self, host: Host, *, delay_s: float = 0.0, jitter_s: float = 0.0, loss: float = 0.0) -> None:
        """All links of a host, in both directions."""
        others = [name for name in self.hosts if name != host.name]
        pairs = [(host.name, other) for other in others] + [(other, host.name) for other in others]
        self._change(pairs, Conditions(delay_s, jitter_s, loss))

    def rate(self, host: Host, bytes_per_s: float) -> None:
        """What a host's own wire carries in each direction, whoever it is to; 0 for no bound.

        When all hosts are there, and before what is to be measured connects: frames of connections that are there
        already are cut into single segments, which costs the switch more than it can do at some hundreds of Mbit/s."""
        for each in self.hosts.values():
            with each.entered():
                interfaces.limit_frames(INTERFACE, _SLOW_FRAME_BYTES)
        self._order(
            {"do": "rate", "ports": [host.name], "up_bytes_per_s": bytes_per_s, "down_bytes_per_s": bytes_per_s}
        )

    def partition(self, *sides: Iterable[Host]) -> None:
        """Hosts of different sides cannot reach each other; hosts of one side, and of none, can."""
        named = [[host.name for host in side] for side in sides]
        pairs = [(a, b) for one, other in permutations(named, 2) for a in one for b in other]
        self._change(pairs, Conditions(down=True))

    def cut_off(self, host: Host) -> None:
        """As if its cable were pulled."""
        self.partition([host], [other for other in self.hosts.values() if other is not host])

    def heal(self) -> None:
        """Every link is a quick wire again."""
        self._change(list(permutations(self.hosts, 2)), Conditions())

    def traffic(self) -> list[Traffic]:
        """Of all links so far."""
        return [Traffic(*each) for each in self._order({"do": "traffic"})]

    def sent_bytes(self) -> dict[str, int]:
        """What each host has sent so far, by its name; a frame for all counts once."""
        sent: dict[str, int] = self._order({"do": "sent"})
        return sent

    def _change(self, pairs: Sequence[tuple[str, str]], conditions: Conditions) -> None:
        self._order({"do": "link", "pairs": pairs, "conditions": asdict(conditions)})

    def _order(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> Any:
        """Returns when the switch has done it."""
        socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
        answer = self._control.recv(1 << 20)
        if not answer:
            raise RuntimeError("the switching process has ended")
        return json.loads(answer)
