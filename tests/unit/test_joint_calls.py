"""Calls of one turn of the loop that go to one peer go as one, and what befalls that one befalls each as if alone."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from appliance.core.errors import BusyError, IngleError, UnavailableError, WorkerFailedError
from appliance.core.frames import AnswerForm, Encoding, Invoke, TensorHead
from appliance.core.tensors import TensorSpec
from appliance.gateway.joint_calls import JointCall, JointCalls
from appliance.gateway.joint_rows import OneAnswer
from appliance.workers.work import Work
from federation.messages import MeshInvoke, MeshReply, ModelState

NOBODY: Any = None


class Caller:
    """One call, and all that came of it."""

    def __init__(self, number: int, linked: bool) -> None:
        self.number = number
        self.joint: JointCall | None = None
        self.alone: list[str] = []
        self.answer: bytes | None = None
        self.counted = False
        self.faults: list[tuple[str, bool]] = []
        self._linked = linked

    def joins(self, node_id: str, joint: JointCall) -> None:
        self.joint = joint

    def ask_alone(self, node_id: str) -> None:
        if not self._linked:
            raise UnavailableError("there is no link")
        self.alone.append(node_id)

    def replied_jointly(self, node_id: str, reply: MeshReply, own: OneAnswer, *, first: bool) -> None:
        assert self.answer is None
        self.answer, self.counted = own.body, first

    def failed_at(self, node_id: str, error: IngleError, *, elsewhere: bool) -> None:
        self.faults.append((error.code, elsewhere))


class Mesh:
    """Keeps what peers are asked. `most`: rows in one run of the model; `run_s`: how long one takes at each peer."""

    def __init__(self, *, most: int = 64, run_s: float = 1e-4, outside: bool = False) -> None:
        self.asked: list[tuple[str, MeshInvoke, bytes, JointCall]] = []
        self.cancelled: list[int] = []
        self.linked = True
        self._number = 100
        signature = SimpleNamespace(outputs=(TensorSpec("y", "FP32", (-1,)),))
        self.route: Any = SimpleNamespace(
            key="local/m:1.0.0@d",
            name="local/m",
            version="1.0.0",
            model=SimpleNamespace(digest="d", signature=signature),
            pool=SimpleNamespace(max_batch=most),
        )
        peer: Any = SimpleNamespace(models={self.route.key: ModelState(1, 0.0, {1: run_s})}, outside=outside)
        self.joint = JointCalls(self, lambda node_id: peer)

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def asks_jointly(self, node_id: str, asked: MeshInvoke, body: Sequence[Any], joint: JointCall) -> bool:
        if self.linked:
            self.asked.append((node_id, asked, b"".join(body), joint))
        return self.linked

    def asks_no_more(self, number: int, node_id: str) -> None:
        self.cancelled.append(number)

    def call(self, number: int, *, node_id: str = "there", rows: int = 1, deadline_s: float = 1e9) -> Caller:
        """A call whose every row is its number; asked alone where it may go with no others."""
        caller = Caller(number, self.linked)
        head = TensorHead("x", "UINT8", [rows], Encoding.RAW, rows)
        invoke = Invoke(number, AnswerForm.TENSORS, [head])
        work = Work(invoke, [bytes([number]) * rows], deadline_s, NOBODY, 0)
        if not self.joint.take(node_id, self.route, work, f"id-{number}", caller):
            caller.ask_alone(node_id)
        return caller

    async def busy(self) -> None:
        """A turn that brought several calls: the next one's are expected to be several too."""
        for number in (250, 251):
            self.call(number)
        await asyncio.sleep(0)
        self.asked.clear()

    def reply(self, *, rows: int = 0, index: int = 0) -> None:
        """The peer answers what it was asked with what it was sent; with other rows where `rows` says so."""
        node_id, asked, body, joint = self.asked[index]
        count = rows or len(body)
        heads = [TensorHead("y", "UINT8", [count], Encoding.RAW, count)]
        joint.replied(node_id, MeshReply(asked.call, heads, 0, 0, 0, 0, 0, 1, count), [bytes(count) if rows else body])


def run(what: Callable[[Mesh], Awaitable[None]], **of_mesh: Any) -> None:
    async def in_a_loop() -> None:
        await what(Mesh(**of_mesh))

    uvloop.run(in_a_loop())


def test_a_caller_who_waits_for_each_answer_is_not_kept_waiting() -> None:
    async def one_a_turn(mesh: Mesh) -> None:
        for number in range(3):
            assert mesh.call(number).alone == ["there"]
            await asyncio.sleep(0)
        assert mesh.asked == []

    run(one_a_turn)


def test_calls_of_one_turn_go_as_one_and_each_gets_its_own_answer() -> None:
    async def several(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(1), mesh.call(2, rows=3), mesh.call(3)]
        assert mesh.asked == []
        await asyncio.sleep(0)
        ((node_id, asked, body, _),) = mesh.asked
        assert (node_id, body) == ("there", bytes([1, 2, 2, 2, 3]))
        assert (asked.model, asked.version, asked.digest, asked.call_id) == ("local/m", "1.0.0", "d", "id-1")
        assert [(head.name, head.shape) for head in asked.tensors] == [("x", [5])]
        assert asked.call == 101
        mesh.reply()
        assert [caller.answer for caller in callers] == [bytes([1]), bytes([2]) * 3, bytes([3])]
        assert [caller.counted for caller in callers] == [True, False, False]  # one run
        assert [caller.alone for caller in callers] == [[], [], []]

    run(several)


def test_thirty_two_do_not_wait_for_the_turn_to_end() -> None:
    async def many(mesh: Mesh) -> None:
        await mesh.busy()
        for number in range(67):
            mesh.call(number)
        assert [len(body) for _, _, body, _ in mesh.asked] == [32, 32]
        await asyncio.sleep(0)
        assert [len(body) for _, _, body, _ in mesh.asked] == [32, 32, 3]

    run(many)


def test_a_run_gets_no_more_rows_than_the_model_takes() -> None:
    async def wide(mesh: Mesh) -> None:
        await mesh.busy()
        for number in range(4):
            mesh.call(number, rows=3)
        await asyncio.sleep(0)
        assert [len(body) for _, _, body, _ in mesh.asked] == [6, 6]

    run(wide, most=8)


def test_each_peer_gets_its_own() -> None:
    async def two_peers(mesh: Mesh) -> None:
        await mesh.busy()
        for number in range(4):
            mesh.call(number, node_id="ab"[number % 2])
        await asyncio.sleep(0)
        assert [(node_id, body) for node_id, _, body, _ in mesh.asked] == [("a", bytes([0, 2])), ("b", bytes([1, 3]))]

    run(two_peers)


@pytest.mark.parametrize(
    "of_mesh",
    [
        pytest.param({"run_s": 2e-3}, id="a run so long that joining may make the first wait"),
        pytest.param({"run_s": 0.0}, id="a run that was never measured"),
        pytest.param({"most": 1}, id="a model whose rows depend on each other"),
        pytest.param({"outside": True}, id="a server that is no node"),
    ],
)
def test_where_joining_may_not_pay_each_goes_by_itself(of_mesh: dict[str, Any]) -> None:
    async def several(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(number) for number in range(3)]
        assert [caller.alone for caller in callers] == [["there"]] * 3
        await asyncio.sleep(0)
        assert mesh.asked == []

    run(several, **of_mesh)


def test_the_one_call_has_the_time_that_the_most_patient_has() -> None:
    async def patient(mesh: Mesh) -> None:
        await mesh.busy()
        loop = asyncio.get_running_loop()
        for number, left_s in enumerate((5.0, 500.0, 50.0)):
            mesh.call(number, deadline_s=loop.time() + left_s)
        await asyncio.sleep(0)
        assert 400 < mesh.asked[0][1].deadline_s <= 500

    run(patient)


@pytest.mark.parametrize("answer", ["fault", "other rows"])
def test_where_the_one_fails_each_is_asked_by_itself(answer: str) -> None:
    async def fails(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(number) for number in range(3)]
        await asyncio.sleep(0)
        callers[1].joint.withdraw(callers[1])  # type: ignore[union-attr]
        if answer == "fault":
            mesh.asked[0][3].failed_at("there", WorkerFailedError("no such row"), elsewhere=False)
        else:
            mesh.reply(rows=7)
        assert [caller.alone for caller in callers] == [["there"], [], ["there"]]
        assert [caller.faults for caller in callers] == [[], [], []]

    run(fails)


def test_a_fault_of_ours_in_one_call_keeps_no_answer_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(number) for number in range(3)]
        await asyncio.sleep(0)
        callers[1].answer = b"told already"  # so that it does not take another
        mesh.reply()
        assert [caller.answer for caller in callers] == [bytes([0]), b"told already", bytes([2])]

    run(breaks)
    assert "AssertionError" in caplog.text


def test_where_the_peer_ran_nothing_all_are_told_so() -> None:
    async def is_busy(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(number) for number in range(2)]
        await asyncio.sleep(0)
        mesh.asked[0][3].failed_at("there", BusyError("it is full", retry_after_s=1.0), elsewhere=True)
        assert [caller.faults for caller in callers] == [[("busy", True)]] * 2

    run(is_busy)


def test_without_a_link_all_are_told_so() -> None:
    async def cut_off(mesh: Mesh) -> None:
        await mesh.busy()
        mesh.linked = False
        callers = [mesh.call(number) for number in range(2)]
        await asyncio.sleep(0)
        assert [caller.faults for caller in callers] == [[("unavailable", True)]] * 2

    run(cut_off)


def test_who_has_left_before_is_not_asked_for_and_the_last_to_leave_cancels() -> None:
    async def leaving(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(number) for number in range(3)]
        callers[0].joint.withdraw(callers[0])  # type: ignore[union-attr]
        await asyncio.sleep(0)
        ((_, asked, body, joint),) = mesh.asked
        assert body == bytes([1, 2])
        joint.withdraw(callers[1])
        assert mesh.cancelled == []
        joint.withdraw(callers[2])
        assert mesh.cancelled == [asked.call]

    run(leaving)


def test_who_is_left_alone_goes_by_itself() -> None:
    async def alone(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(number) for number in range(2)]
        callers[0].joint.withdraw(callers[0])  # type: ignore[union-attr]
        await asyncio.sleep(0)
        assert mesh.asked == []
        assert [caller.alone for caller in callers] == [[], ["there"]]

    run(alone)


def test_what_waits_for_a_peer_that_is_gone_is_not_sent_when_it_comes_back() -> None:
    async def gone(mesh: Mesh) -> None:
        await mesh.busy()
        callers = [mesh.call(1), mesh.call(2), mesh.call(3, node_id="other"), mesh.call(4, node_id="other")]
        mesh.joint.peer_gone("there")
        await asyncio.sleep(0)
        assert [node_id for node_id, *_ in mesh.asked] == ["other"]
        assert [caller.alone for caller in callers] == [[]] * 4

    run(gone)
