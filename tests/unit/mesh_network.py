"""A network in memory with a clock of its own, and nodes on it: MeshCores, the disks under them and the gateway's part
of the bargain. What real networks do to TCP happens here: delay, cuts that one side or neither side notices, partitions
and loss one way (what is sent waits), crashes with and without a farewell, frozen processes, wall clocks that jump.

The network does not find out who is dead, as ZeroMQ's heartbeats would: the core must.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count

from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature
from federation.actions import Action, CatalogueChanged, Cut, Dial, Fault, PeerChanged, Send, StoreRegisters
from federation.core import TICK_S, MeshCore
from federation.frames import message_parts, read_message
from federation.identity import node_id_of
from federation.messages import PROTOCOL, Head, Hello, Introduction, Load, ModelState, Record, Register, removal_key
from federation.registers import RegisterKey, register_key
from federation.settings import MeshSettings

UNIX_S = 1_790_000_000.0
# What a message costs beyond its frame: ZMTP and CURVE 35 bytes, TCP, IP and Ethernet 66.
OVERHEAD_BYTES = 101


def introduction_of(number: int) -> Introduction:
    public_key = number.to_bytes(32, "big")
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    return Introduction(node_id_of(public_key), f"node-{number}", public_key, "k1", bytes(32), [address], 8004, 8005)


def hello_of(number: int, incarnation: int = 1) -> Hello:
    return Hello(PROTOCOL, "0.1.0", introduction_of(number), incarnation, http=8000)


def record_of(
    name: str, version: str = "1.0.0", *, ordinal: int = 1, content: str = "a", created_s: float = UNIX_S
) -> Record:
    digest = (content.encode().hex() + "0" * 64)[:64]
    return Record(name, version, ordinal, digest, 1000, Signature((), ()), Manifest(), True, "proved", created_s)


class Link:
    """One TCP connection: two queues in order. An end that is not `open` neither sends nor hears."""

    def __init__(self, ends: frozenset[str]) -> None:
        self.open = dict.fromkeys(ends, True)
        self.arrives_s = dict.fromkeys(ends, 0.0)  # by receiver: when the last message does
        self.waiting: dict[str, deque[Callable[[], None]]] = {end: deque() for end in ends}  # what is lost on its way


class Node:
    """One machine: a disk that outlives the process, and the process."""

    def __init__(self, network: "Network", number: int) -> None:
        self.network = network
        self.number = number
        self.node_id = introduction_of(number).node_id
        self.disk: dict[tuple[str, str], Record] = {}
        self.kept: dict[RegisterKey, Register] = {}
        self.incarnation = 0
        self.ahead_s = 0.0  # of the wall clock
        self.core: MeshCore | None = None
        self.links: dict[str, Link] = {}
        self.frozen: deque[Callable[[], None]] | None = None
        self.faults: list[str] = []
        self.sent_bytes = 0
        self.highest: dict[str, int] = {}  # incarnations of peers, as seen by this process
        self.load, self.models = Load(), dict[str, ModelState]()  # as published
        self.knows = list[Introduction]()  # at its start

    @property
    def unix_s(self) -> float:
        return UNIX_S + self.network.now_s + self.ahead_s

    def start(self) -> None:
        self.incarnation += 1
        self.highest, self.load, self.models = {}, Load(), {}
        self.core = core = MeshCore(
            hello_of(self.number, self.incarnation),
            self.network.settings,
            now_s=self.network.now_s,
            unix_s=lambda: self.unix_s,
            registers=list(self.kept.values()),
        )
        core.set_holdings(self.disk.values(), self.network.now_s)
        for introduction in self.knows:
            core.introduced(introduction, self.network.now_s)
        self.perform()
        self.network.after(self.network.dice.random() * TICK_S, self._tick, core)

    def crash(self, *, farewell: bool) -> None:
        """With a farewell the kernel resets its connections; without one the plug was pulled."""
        self.core, self.frozen = None, None
        for peer, link in list(self.links.items()):
            link.open[self.node_id] = False
            if farewell:
                self.network.tell_end(self, peer, link)
        self.links.clear()

    def freeze(self) -> None:
        if self.core is not None and self.frozen is None:
            self.frozen = deque()

    def thaw(self) -> None:
        waiting, self.frozen = self.frozen or deque(), None
        for event in waiting:
            event()

    def happens(self, core: MeshCore | None, event: Callable[[MeshCore], None]) -> None:
        """Something reaches the process that `core` was then."""
        if core is None or core is not self.core:
            return
        if self.frozen is not None:
            self.frozen.append(lambda: self.happens(core, event))
            return
        event(core)
        self.perform()

    def _tick(self, core: MeshCore) -> None:
        if core is not self.core:
            return
        if self.frozen is None:
            core.tick(self.network.now_s)
            self.perform()
        self.network.after(TICK_S, self._tick, core)

    # What the gateway does.

    def deploy(self, record: Record) -> None:
        """As a gateway does: a version that is here stays, one that was removed is written to be there anew."""
        if self.core is None or self.frozen is not None or (record.name, record.version) in self.disk:
            return
        key = removal_key(record.version, record.digest)
        removal = self.core.register("removed", record.name, key)
        if removal is not None and removal.value:
            self.core.write_register("removed", record.name, key, "", self.network.now_s)
        self._set_disk({**self.disk, (record.name, record.version): record})

    def remove(self, name: str, version: str) -> None:
        """The version as this node knows it, wherever it lies; one of a conflict's."""
        if self.core is None or self.frozen is not None or (model := self.core.view().model(name)) is None:
            return
        digests = [v.record.digest for v in model.versions.values() if v.record.version == version]
        digests += [digest for c in model.conflicts.values() if c.version == version for digest in c.holders]
        if digests:
            self.core.write_register("removed", name, removal_key(version, digests[0]), digests[0], self.network.now_s)
            self.perform()

    def write(self, kind: str, name: str, key: str, value: str) -> None:
        if self.core is not None and self.frozen is None:
            self.core.write_register(kind, name, key, value, self.network.now_s)
            self.perform()

    def publish(self, load: Load, models: dict[str, ModelState]) -> None:
        if self.core is not None and self.frozen is None:
            self.load, self.models = load, models
            self.core.publish(load, models, self.network.now_s)
            self.perform()

    def copy(self, name: str) -> None:
        """Fetches what others hold of a model and this node does not."""
        if self.core is None or self.frozen is not None or (model := self.core.view().model(name)) is None:
            return
        missing = [v.record for v in model.versions.values() if (name, v.record.version) not in self.disk]
        self._set_disk({**self.disk, **{(name, record.version): record for record in missing}})

    def _set_disk(self, disk: dict[tuple[str, str], Record]) -> None:
        assert self.core is not None
        self.disk = disk
        self.core.set_holdings(disk.values(), self.network.now_s)
        self.perform()

    def perform(self) -> None:
        core = self.core
        while core is not None and (actions := core.take_actions()):
            for action in actions:
                self._perform(core, action)
            if any(isinstance(action, PeerChanged | CatalogueChanged) for action in actions):
                self._check(core)

    def _perform(self, core: MeshCore, action: Action) -> None:
        match action:
            case Send():
                self.network.send(self, action)
            case Dial():
                self.network.dial(self, action.introduction.node_id)
            case Cut():
                self.network.cut(self, action.node_id)
            case StoreRegisters():
                self.kept |= {register_key(register): register for register in action.registers}
                for key in action.gone:
                    self.kept.pop(key, None)
            case Fault():
                self.faults.append(action.sentence)
            case CatalogueChanged():
                self._delete_removed(core, action.names)

    def _delete_removed(self, core: MeshCore, names: frozenset[str]) -> None:
        models = [model for name in names if (model := core.view().model(name)) is not None]
        dead = [record for model in models for record in model.dead.get(self.node_id, ())]
        if dead:
            gone = {(record.name, record.version) for record in dead}
            self.disk = {key: record for key, record in self.disk.items() if key not in gone}
            core.set_holdings(self.disk.values(), self.network.now_s)

    def _check(self, core: MeshCore) -> None:
        """What holds at every moment."""
        for peer in core.peers.values():
            assert peer.hello.incarnation >= self.highest.get(peer.node_id, 0), "an incarnation went back"
            self.highest[peer.node_id] = peer.hello.incarnation
        view = core.view()
        for name in view.names():
            for holder in view.holders(name) - {self.node_id}:
                assert core.peers[holder].standing not in ("dead", "joining"), "a dead copy is counted"


class Network:
    """All nodes, the time, and what is in the way of messages."""

    def __init__(
        self, count_of_nodes: int, seed: int, *, settings: MeshSettings | None = None, encoded: bool = False
    ) -> None:
        """`encoded`: messages are written and read as they are on the wire, and counted."""
        self.dice = random.Random(seed)
        self.settings = settings or MeshSettings()
        self.now_s = 0.0
        self.encoded = encoded
        self.nodes = [Node(self, number) for number in range(1, count_of_nodes + 1)]
        for node in self.nodes:
            node.knows = [introduction_of(other.number) for other in self.nodes if other is not node]
        self.by_id = {node.node_id: node for node in self.nodes}
        self._delays_s: dict[tuple[str, str], float] = {}
        self._blocked: set[tuple[str, str]] = set()  # from, to
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def after(self, delay_s: float, event: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._order), lambda: event(*arguments)))

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
        self.now_s = until_s

    # The ways.

    def block(self, one: Node, other: Node) -> None:
        """What one sends does not reach the other; TCP keeps it."""
        self._blocked.add((one.node_id, other.node_id))

    def part(self, group: list[Node]) -> None:
        for one in group:
            for other in self.nodes:
                if other not in group:
                    self.block(one, other)
                    self.block(other, one)

    def heal(self) -> None:
        self._blocked.clear()
        for node in self.nodes:
            for link in list(node.links.values()):
                waiting, link.waiting[node.node_id] = link.waiting[node.node_id], deque()
                for arrival in waiting:
                    arrival()

    def _delay_s(self, one: str, other: str) -> float:
        delay_s = self._delays_s.get((one, other))
        if delay_s is None:
            delay_s = self.dice.choice((0.0002, 0.001, 0.005, 0.03))
            self._delays_s[one, other] = self._delays_s[other, one] = delay_s
        return delay_s

    def _carry(self, link: Link, sender: str, receiver: str, arrival: Callable[[], None]) -> None:
        """In order, after the delay; behind what is held up."""

        def arrive() -> None:
            if (sender, receiver) in self._blocked or link.waiting[receiver]:
                link.waiting[receiver].append(arrive)
            else:
                arrival()

        link.arrives_s[receiver] = max(link.arrives_s[receiver], self.now_s + self._delay_s(sender, receiver))
        self.after(link.arrives_s[receiver] - self.now_s, arrive)

    # Links.

    def dial(self, node: Node, to: str) -> None:
        """A handshake of two round trips, if both ways are open then."""
        if to not in node.links:
            self.after(4 * self._delay_s(node.node_id, to), self._connected, node, node.core, self.by_id[to])

    def _connected(self, node: Node, core: MeshCore | None, other: Node) -> None:
        ways = {(node.node_id, other.node_id), (other.node_id, node.node_id)}
        is_new = other.node_id not in node.links or node.node_id not in other.links
        if core is None or core is not node.core or other.core is None or ways & self._blocked or not is_new:
            return
        if node.frozen is not None or other.frozen is not None:
            return
        link = Link(frozenset((node.node_id, other.node_id)))
        for one, two in ((node, other), (other, node)):
            if (old := one.links.get(two.node_id)) is not None:
                old.open[one.node_id] = False
            one.links[two.node_id] = link
            assert one.core is not None
            self._carry(link, one.node_id, two.node_id, self._greeting(link, one, two, one.core.hello()))

    def _greeting(self, link: Link, sender: Node, receiver: Node, hello: Hello) -> Callable[[], None]:
        core = receiver.core

        def arrive() -> None:
            if link.open[receiver.node_id]:
                receiver.happens(core, lambda core: core.link_up(sender.node_id, hello, self.now_s))

        return arrive

    def send(self, node: Node, action: Send) -> None:
        head, size_bytes = self._written(action)
        for to in action.to:
            link = node.links.get(to)
            if link is not None and link.open[node.node_id]:
                node.sent_bytes += size_bytes + OVERHEAD_BYTES
                receiver = self.by_id[to]
                self._carry(link, node.node_id, to, self._arrival(link, node, receiver, head, size_bytes))

    def _written(self, action: Send) -> tuple[Head, int]:
        if not self.encoded:
            return action.head, 100
        parts = message_parts(action.head, [bytes(action.pad_bytes)] if action.pad_bytes else ())
        read = read_message(parts)
        assert read is not None
        return read[0], sum(map(len, parts))

    def _arrival(self, link: Link, sender: Node, receiver: Node, head: Head, size_bytes: int) -> Callable[[], None]:
        core = receiver.core

        def arrive() -> None:
            if link.open[receiver.node_id]:
                receiver.happens(core, lambda core: core.received(sender.node_id, head, self.now_s, size_bytes))

        return arrive

    def cut(self, node: Node, to: str) -> None:
        """This node ends a link; the other hears of it if the way is open."""
        link = node.links.pop(to, None)
        if link is not None:
            link.open[node.node_id] = False
            self.tell_end(node, to, link)

    def reset(self, one: Node, other: Node) -> None:
        """Something between them ended their connection: both hear of it."""
        link = one.links.get(other.node_id)
        if link is not None:
            for node, peer in ((one, other), (other, one)):
                self._ended(node, peer.node_id, link)

    def tell_end(self, node: Node, to: str, link: Link) -> None:
        self._carry(link, node.node_id, to, lambda: self._ended(self.by_id[to], node.node_id, link))

    def _ended(self, node: Node, peer: str, link: Link) -> None:
        if not link.open[node.node_id]:
            return

        def ended(core: MeshCore) -> None:
            link.open[node.node_id] = False
            if node.links.get(peer) is link:
                del node.links[peer]
                core.link_down(peer, "the connection was reset", self.now_s)

        node.happens(node.core, ended)
