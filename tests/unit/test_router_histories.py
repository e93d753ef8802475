"""Random histories of a mesh in memory, as one node's router sees it: nodes crash, freeze, are cut off, drain, fail and
come back, while calls come. Whatever happens, each caller hears once; and no call is lost while one node that has the
model lived, and was in reach, all the time that the call took."""

import random
from functools import partial
from typing import Literal

import pytest
from routed_mesh import KEY, Mesh, make_peer

from appliance.core.errors import DeadlineError, IngleError, UnavailableError, WorkerFailedError
from appliance.routing.call import Call
from appliance.routing.routed_call import RoutedCall
from federation.messages import ModelState

Condition = Literal["well", "slow", "frozen", "draining", "failing", "gone"]

RUN_S = 0.01
SUSPECT_S, DEAD_S = 0.75, 2.25
CALLS_PER_S = 20
LENGTH_S = 12.0
# What is asked of a node in this condition may go wrong; more than one such node may fail a call twice.
_ONE_AT_A_TIME = "failing"


class Node:
    """A peer as it is, beside what the router is told of it."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.condition: Condition = "well"
        self.since_s = 0.0  # in this condition
        self.life = 0  # counts its ends: what was asked in an earlier one is never answered


class Asker:
    """One call's Carrier."""

    def __init__(self, world: "World", number: int, *, short: bool) -> None:
        self.world = world
        self.number = number
        self.short = short  # its deadline
        self.began_s = world.mesh.clock.now_s
        self.heard: list[str] = []
        self.outstanding: set[str] = set()
        self.routed: RoutedCall[str]

    def ask_local(self) -> None:
        raise AssertionError("this node does not have the model")

    def ask_peer(self, node_id: str) -> None:
        assert node_id not in self.outstanding
        assert not self.heard
        node = self.world.nodes[node_id]
        if self.world.mesh.peers[node_id].standing in ("joining", "dead"):
            raise UnavailableError("there is no link")
        self.outstanding.add(node_id)
        after_s = RUN_S * (100 if node.condition == "slow" else self.world.dice.uniform(0.5, 2))
        self.world.mesh.clock.call_later(after_s, partial(self.reach, node, node.life))

    def reach(self, node: Node, life: int) -> None:
        if node.life != life or node.condition in ("frozen", "gone") or node.node_id not in self.outstanding:
            return  # a frozen node's answers are lost with it: it is given up before it wakes
        self.outstanding.discard(node.node_id)
        if node.condition == "draining":
            self.routed.failed(node.node_id, UnavailableError("it drains"), elsewhere=True)
        elif node.condition == "failing":
            self.routed.failed(node.node_id, WorkerFailedError("its worker died"), elsewhere=False)
        else:
            self.routed.answered(node.node_id, "answer", 100)

    def cancel(self, node_id: str) -> None:
        self.outstanding.remove(node_id)

    def deliver(self, node_id: str, outcome: str) -> None:
        self.heard.append(outcome)

    def fail(self, error: IngleError) -> None:
        self.heard.append(error.code)
        if self.short and isinstance(error, DeadlineError):
            return  # a slow node takes longer than that
        well_s = max((self.world.mesh.clock.now_s - node.since_s for node in self.world.in_reach()), default=-1.0)
        took_s = self.world.mesh.clock.now_s - self.began_s
        assert well_s < took_s, f"call {self.number} was lost ({error.sentence}) while a node lived"


class World:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.nodes = {node_id: Node(node_id) for node_id in "abcde"[: self.dice.randint(2, 5)]}
        self.mesh = Mesh(*(make_peer(node_id, rtt_s=self.dice.uniform(1e-4, 1e-2)) for node_id in self.nodes))
        self.askers: list[Asker] = []

    def in_reach(self) -> list[Node]:
        return [
            node
            for node in self.nodes.values()
            if node.condition in ("well", "slow") and self.mesh.peers[node.node_id].standing == "alive"
        ]

    def change(self) -> None:
        """Something happens to some node."""
        node = self.dice.choice(list(self.nodes.values()))
        condition: Condition = self.dice.choice(("well", "well", "slow", "frozen", "draining", "failing", "gone"))
        if condition == node.condition:
            return
        if condition == _ONE_AT_A_TIME and any(other.condition == condition for other in self.nodes.values()):
            return
        was, node.condition, node.since_s = node.condition, condition, self.mesh.clock.now_s
        peer = self.mesh.peers[node.node_id]
        if was in ("frozen", "gone"):
            node.life += 1
            self._lose(node)
            peer.standing = "alive"
        if condition == "frozen":
            self.mesh.clock.call_later(SUSPECT_S, partial(self._suspect, node, node.since_s))
            self.mesh.clock.call_later(DEAD_S, partial(self._bury, node, node.since_s))
        elif condition == "gone":
            node.life += 1
            self._lose(node)
        elif condition == "draining":
            peer.standing = "draining"
        elif was == "draining":
            peer.standing = "alive"
        peer.models[KEY] = ModelState(replicas=1, run_s={1: RUN_S})

    def _suspect(self, node: Node, since_s: float) -> None:
        if node.since_s == since_s:
            self.mesh.peers[node.node_id].standing = "suspect"
            self.mesh.router.peer_suspect(node.node_id)

    def _bury(self, node: Node, since_s: float) -> None:
        if node.since_s == since_s:
            self._lose(node)

    def _lose(self, node: Node) -> None:
        self.mesh.peers[node.node_id].standing = "dead"
        for asker in self.askers:
            asker.outstanding.discard(node.node_id)
        self.mesh.router.peer_lost(node.node_id)

    def call(self) -> None:
        short = self.dice.random() < 0.3
        deadline_s = self.mesh.clock.now_s + (0.3 if short else 10.0)
        asker = Asker(self, len(self.askers), short=short)
        self.askers.append(asker)
        asker.routed = self.mesh.router.route(Call(KEY, 100, deadline_s), asker)
        asker.routed.start()

    def run(self) -> None:
        clock = self.mesh.clock
        ends_s = clock.now_s + LENGTH_S
        while clock.now_s < ends_s:
            clock.pass_s(self.dice.expovariate(CALLS_PER_S))
            self.call()
            if self.dice.random() < 0.05:
                self.change()
        clock.pass_s(30.0)


@pytest.mark.parametrize("seed", range(3))
def test_every_caller_hears_once_and_none_is_lost_while_a_node_lives(seed: int) -> None:
    answered = 0
    for number in range(15):
        world = World(seed * 1000 + number)
        world.run()
        for asker in world.askers:
            assert len(asker.heard) == 1, f"history {number}, call {asker.number}"
            assert not asker.outstanding
            answered += asker.heard == ["answer"]
        assert world.mesh.clock.alarms == 0
    assert answered > 2000
