"""The mesh under random histories of faults, in a network in memory: when the network heals, all nodes see the same,
and that is what lies on their disks. MESH_HISTORIES=N runs N of them instead of a few."""

import os
from collections.abc import Callable, Iterable

import pytest

from federation.holdings import record_key
from federation.messages import Load, ModelState, Register
from federation.registers import register_key, stands_over
from federation.view import MeshModel, model_of
from tests.unit.mesh_network import Network, Node, record_of

HISTORIES = int(os.environ.get("MESH_HISTORIES", "15"))
FAULTS_S = 30.0
# From the end of all faults until everybody sees everybody: the longest pause between dials, a handshake and a margin.
MEET_S = 6.0
# And until all know the same: what was told on a link that had ended is told again.
SETTLE_S = 14.0
MODELS = ("acme/a", "acme/b", "local/c")


def expected_view(nodes: Iterable[Node]) -> dict[str, MeshModel]:
    """What the mesh has: what lies on the disks, under the last of all registers that any node keeps."""
    registers: dict[tuple[str, str, str], Register] = {}
    for node in nodes:
        for key, register in node.kept.items():
            if key not in registers or stands_over(register, registers[key]):
                registers[key] = register
    names = {name for node in nodes for name, _ in node.disk}
    models = {}
    for name in sorted(names):
        holdings = {
            node.node_id: [record for record in node.disk.values() if record.name == name]
            for node in nodes
            if any(record.name == name for record in node.disk.values())
        }
        of_name = [register for register in registers.values() if register_key(register)[1] == name]
        if (model := model_of(name, holdings, of_name)) is not None:
            models[name] = model
    return models


def seen_by(node: Node) -> dict[str, MeshModel]:
    assert node.core is not None
    return {model.name: model for model in node.core.view().models()}


def standings(node: Node) -> dict[str, str]:
    assert node.core is not None
    return {peer.name: peer.standing for peer in node.core.peers.values()}


class History:
    """Faults and writes at random moments, from a seed."""

    def __init__(self, seed: int) -> None:
        self.network = Network(5 + seed % 4, seed, encoded=seed % 5 == 0)
        self.dice = self.network.dice
        self.deployed = 0
        self.deeds: list[tuple[int, Callable[[], None]]] = [
            (4, self.deploy),
            (2, self.remove),
            (3, self.alias),
            (2, self.copy),
            (2, lambda: self.node().crash(farewell=self.dice.random() < 0.5)),
            (3, self.restart),
            (2, lambda: self.node().freeze()),
            (3, lambda: self.node().thaw()),
            (2, self.part),
            (2, self.block),
            (3, self.network.heal),
            (3, self.reset),
            (2, self.jump),
            (4, self.publish),
            (2, self.answer),
        ]

    def run(self) -> Network:
        network = self.network
        network.start()
        while network.now_s < FAULTS_S:
            network.run(network.now_s + self.dice.expovariate(2.0))
            weights, deeds = zip(*self.deeds, strict=True)
            self.dice.choices(deeds, weights)[0]()
        for node in network.nodes:
            node.thaw()
            if node.core is None:
                node.start()
        network.heal()
        return network

    def node(self) -> Node:
        return self.dice.choice(self.network.nodes)

    def deploy(self) -> None:
        self.deployed += 1
        version = f"1.{self.dice.randrange(3)}.0"
        content = self.dice.choice(("same", f"new {self.deployed}"))
        node = self.node()
        ordinal = len([name for name, _ in node.disk if name == MODELS[0]]) + 1
        record = record_of(self.dice.choice(MODELS), version, ordinal=ordinal, content=content, created_s=node.unix_s)
        node.deploy(record)

    def remove(self) -> None:
        node = self.node()
        versions = [version for node in self.network.nodes for _, version in node.disk]
        if versions:
            node.remove(self.dice.choice(MODELS), self.dice.choice(versions))

    def alias(self) -> None:
        value = self.dice.choice(("1.0.0", "1.1.0", ""))
        self.node().write("alias", self.dice.choice(MODELS), self.dice.choice(("default", "prod")), value)

    def copy(self) -> None:
        self.node().copy(self.dice.choice(MODELS))

    def publish(self) -> None:
        models = [f"local/{word}:1.0.0@0" for word in "abc" if self.dice.random() < 0.7]
        self.node().publish(
            Load(backlog_s=self.dice.choice((0.0, 0.1, 1.0))),
            {key: ModelState(self.dice.randrange(3), self.dice.choice((0.0, 0.1, 1.0)), {1: 0.01}) for key in models},
        )

    def answer(self) -> None:
        """With an answer came what is true no more when the next state is told."""
        one, other = self.dice.sample(self.network.nodes, 2)
        if one.core is not None and one.frozen is None:
            state = ModelState(replicas=1, backlog_s=9.0)
            one.core.heard_load(other.node_id, "local/a:1.0.0@0", state, Load(backlog_s=9.0), self.network.now_s)

    def restart(self) -> None:
        node = self.node()
        if node.core is not None and self.dice.random() < 0.5:
            node.crash(farewell=True)
        if node.core is None:
            node.start()

    def part(self) -> None:
        self.network.part([node for node in self.network.nodes if self.dice.random() < 0.5])

    def block(self) -> None:
        one, other = self.dice.sample(self.network.nodes, 2)
        self.network.block(one, other)

    def reset(self) -> None:
        one, other = self.dice.sample(self.network.nodes, 2)
        self.network.reset(one, other)

    def jump(self) -> None:
        self.node().ahead_s = self.dice.choice((0.0, -3600.0, 5.0, 7200.0, 10 * 86400.0, -10 * 86400.0))


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_after_any_history_all_nodes_see_the_same_and_it_is_true(seed: int) -> None:
    network = History(seed).run()
    network.run(network.now_s + MEET_S)
    for node in network.nodes:
        assert set(standings(node).values()) == {"alive"}, f"{node.number} sees {standings(node)}"
    network.run(network.now_s + SETTLE_S)
    expected = expected_view(network.nodes)
    for node in network.nodes:
        assert seen_by(node) == expected, f"node {node.number}"
        assert set(standings(node).values()) == {"alive"}
        for peer in node.core.peers.values() if node.core is not None else ():
            other = network.by_id[peer.node_id]
            assert (peer.load, peer.models) == (other.load, other.models)
            assert peer.holdings.keys() == {record_key(record) for record in other.disk.values()}
            assert 0 < peer.rtt_s < 0.2
            assert peer.bytes_per_s > 0
    assert not any(model.dead for model in expected.values())
