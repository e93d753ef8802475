"""What peers ask of this node is answered once, each for itself, and how the node fares is told once a turn."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from appliance.core.frames import Answer
from appliance.gateway import late_answers
from appliance.gateway.held import HeldBytes
from appliance.gateway.mesh_desk import MeshDesk
from appliance.gateway.waiter import Waiter
from federation.messages import Head, Load, MeshFault, MeshInvoke, MeshReply, ModelState
from tests.mesh.meshed import until

NOW = SimpleNamespace(queue=0.0, load=0.0, total=0.0)


class DataPlane:
    """Keeps who waits for which call, as the desk asked. Not one that runs anything."""

    def __init__(self) -> None:
        self.waiting: dict[int, Waiter] = {}
        self.held = HeldBytes(1000)

    def begin_for_peer(self, request: Any, digest: str, call_id: str, principal: Any, waiter: Waiter) -> Any:
        self.waiting[waiter.number] = waiter
        return SimpleNamespace(route=SimpleNamespace(key=request.model, model=request.model))

    def finished(self, begun: Any, answer: Answer, body: bytes) -> Any:
        return SimpleNamespace(seconds=NOW)

    def dropped(self, begun: Any) -> None:
        """Nothing is kept of it."""

    def answer(self, *calls: int) -> None:
        for call in calls:
            self.waiting.pop(call).set_result((Answer(call, [], 0, 0, 0, 0, 0, 0, 0), bytes(100)))


Said = list[tuple[str, Head]]


def asked(call: int, model: str = "local/m", deadline_s: float = 1.0) -> MeshInvoke:
    return MeshInvoke(call, model, "1.0.0", "d", 0, [], deadline_s=deadline_s)


def said(what: Callable[[MeshDesk, DataPlane], None], fares: Callable[[Any], ModelState] | None = None) -> Said:
    """All that peers were told, some turns after `what` was done in one."""
    told: Said = []

    def send(node_id: str, head: Head, _body: object) -> bool:
        told.append((node_id, head))
        return True

    async def run() -> None:
        dataplane = DataPlane()
        desk: Any = MeshDesk(dataplane, send, fares or (lambda _: ModelState(1)), Load)  # type: ignore[arg-type]
        what(desk, dataplane)
        for _ in range(3):
            await asyncio.sleep(0)

    uvloop.run(run())
    return told


def test_how_the_node_fares_is_told_with_the_first_answer_of_each_model_to_each_peer() -> None:
    def answers(desk: MeshDesk, dataplane: DataPlane) -> None:
        for call, (node_id, model) in enumerate([("a", "x"), ("a", "x"), ("a", "x"), ("a", "y"), ("b", "x")]):
            desk.invoke(node_id, asked(call, model), ())
        dataplane.answer(*range(5))

    told = said(answers)
    tells = [(head.call, head.model_state is not None) for _, head in told if isinstance(head, MeshReply)]
    assert tells == [(0, True), (1, True), (2, False), (3, True), (4, True)]  # call 0 left at once


def test_an_answer_that_cannot_be_sent_is_a_fault_and_keeps_none_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fares(model: object) -> ModelState:
        if model == "broken":
            raise RuntimeError("of this model")
        return ModelState(1)

    def answers(desk: MeshDesk, dataplane: DataPlane) -> None:
        for call, model in enumerate(["x", "broken", "x"]):
            desk.invoke("a", asked(call, model), ())
        dataplane.answer(*range(3))

    told = [(type(head), getattr(head, "call", None)) for _, head in said(answers, fares)]
    assert told == [(MeshReply, 0), (MeshFault, 1), (MeshReply, 2)]
    assert "a fault of ours in a peer's answer" in caplog.text


def test_answers_for_a_peer_that_went_do_not_go_to_its_next_life() -> None:
    def answers(desk: MeshDesk, dataplane: DataPlane) -> None:
        for call in range(3):
            desk.invoke("a", asked(call), ())
        dataplane.answer(0, 1)
        desk.peer_gone("a")
        desk.invoke("a", asked(1), ())

    assert [head.call for _, head in said(answers) if isinstance(head, MeshReply)] == [0]


class FullLink:
    """A link that takes `room` answers, and any fault unless it `is_stuffed`."""

    def __init__(self) -> None:
        self.room = 0
        self.is_stuffed = False
        self.told: list[Head] = []

    def send(self, _node_id: str, head: Head, _body: object) -> bool:
        if isinstance(head, MeshReply):
            if not self.room:
                return False
            self.room -= 1
        elif self.is_stuffed:
            return False
        self.told.append(head)
        return True


def test_answers_that_a_link_has_no_room_for_are_kept_within_bounds_and_sent_when_it_has() -> None:
    async def run() -> None:
        link, dataplane = FullLink(), DataPlane()
        desk: Any = MeshDesk(dataplane, link.send, lambda _: ModelState(1), Load)  # type: ignore[arg-type]
        for call in range(12):
            desk.invoke("a", asked(call), ())
        dataplane.answer(*range(12))
        desk.tell()
        assert [(type(head), getattr(head, "call", None)) for head in link.told] == [(MeshFault, 10), (MeshFault, 11)]
        assert dataplane.held.held_bytes == 1000
        link.room = 4
        await until(lambda: not link.room)
        assert dataplane.held.held_bytes == 600
        link.room = 100
        await until(lambda: not dataplane.held.held_bytes)
        assert [head.call for head in link.told if isinstance(head, MeshReply)] == list(range(10))

    uvloop.run(run())


@pytest.mark.parametrize("kept", [2, 1])
def test_faults_that_a_link_has_no_room_for_are_told_when_it_has(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their callers would else wait until their deadlines. So many are kept."""
    monkeypatch.setattr(late_answers, "MAX_FAULTS", kept)

    async def run() -> None:
        link, dataplane = FullLink(), DataPlane()
        desk: Any = MeshDesk(dataplane, link.send, lambda _: ModelState(1), Load)  # type: ignore[arg-type]
        link.is_stuffed = True
        desk.invoke("a", asked(0), ())
        desk.invoke("b", asked(1, deadline_s=float("nan")), ())
        desk.invoke("b", asked(2), ())
        dataplane.held.take(950)  # so that the answer cannot be kept either
        dataplane.answer(2)
        desk.tell()
        desk.peer_gone("a")
        assert not link.told
        link.is_stuffed = False
        await until(lambda: len(link.told) == kept)
        assert [(type(head), getattr(head, "call", None)) for head in link.told] == [(MeshFault, 1), (MeshFault, 2)][
            :kept
        ]

    uvloop.run(run())


def test_answers_that_are_kept_end_with_the_link() -> None:
    async def run() -> None:
        link, dataplane = FullLink(), DataPlane()
        desk: Any = MeshDesk(dataplane, link.send, lambda _: ModelState(1), Load)  # type: ignore[arg-type]
        for node_id in ("a", "b"):
            desk.invoke(node_id, asked(ord(node_id)), ())
        dataplane.answer(ord("a"), ord("b"))
        desk.tell()
        desk.peer_gone("a")
        link.room = 100
        await until(lambda: not dataplane.held.held_bytes)
        assert [head.call for head in link.told if isinstance(head, MeshReply)] == [ord("b")]

    uvloop.run(run())


@pytest.mark.parametrize("deadline_s", [float("nan"), float("inf"), float("-inf")])
def test_a_call_whose_deadline_is_no_time_is_refused(deadline_s: float) -> None:
    told = said(lambda desk, _: desk.invoke("a", asked(1, deadline_s=deadline_s), ()))
    assert [(type(head), getattr(head, "code", "")) for _, head in told] == [(MeshFault, "bad_input")]
