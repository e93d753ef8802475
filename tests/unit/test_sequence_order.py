"""The order of sequences' calls and what ends them, with a worker that only remembers."""

from typing import Any, cast

import pytest

from appliance.core.errors import BusyError, IngleError, SequenceLostError
from appliance.core.frames import Invoke
from appliance.workers.replica import Replica
from appliance.workers.sequences import CallSequence, Sequences
from appliance.workers.work import Work


class Outcome:
    """A caller who waits."""

    def __init__(self) -> None:
        self.error: IngleError | None = None
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Any, /) -> None:
        self._done = True

    def set_exception(self, exception: IngleError, /) -> None:
        self._done, self.error = True, exception


class Worker:
    """Takes what it is sent, and answers when told to."""

    def __init__(self) -> None:
        self.sequences: set[CallSequence] = set()
        self.in_flight: dict[int, Work] = {}
        self.let_go_of: list[int] = []

    def send(self, work: Work) -> None:
        assert work.sequence is not None
        if work.sequence.replica is None:
            work.sequence.bind(cast(Replica, self))
        self.in_flight[work.invoke.call] = work

    def answer(self, work: Work) -> None:
        del self.in_flight[work.invoke.call]
        if not work.future.done():
            work.future.set_result(cast(Any, None))
        assert work.sequence is not None
        work.sequence.done(work)

    def let_go(self, sequence: CallSequence) -> None:
        self.sequences.discard(sequence)
        self.let_go_of.append(sequence.number)


class Scene:
    """One model's sequences, one worker, and calls numbered as they come."""

    def __init__(self, most: int = 10, idle_s: float = 60.0) -> None:
        self.free: list[Work] = []  # what any worker may run
        self.sequences = Sequences(most=most, idle_s=idle_s, enqueue=self.free.append)
        self.worker = Worker()
        self._calls = 0

    def call(self, sequence: CallSequence, marks: str = "", deadline_s: float = 1e12) -> Work:
        self._calls += 1
        invoke = Invoke(
            self._calls, 0, [], sequence=sequence.number, sequence_start="(" in marks, sequence_end=")" in marks
        )
        work = Work(invoke, [], deadline_s, Outcome(), 0)
        work.sequence = sequence
        self.sequences.submit(sequence, work)
        return work

    def run(self, room: int = 10) -> list[int]:
        """Sends what may be sent, and gives the calls' numbers."""
        sent = [*self.free, *self.sequences.take(cast(Replica, self.worker), room)]
        self.free.clear()
        for work in sent:
            self.worker.send(work)
        return [work.invoke.call for work in sent]


def error_of(work: Work) -> IngleError | None:
    return cast(Outcome, work.future).error


def test_one_call_of_a_sequence_runs_at_a_time_and_in_the_order_they_came() -> None:
    scene = Scene()
    one, other = scene.sequences.begin(1), scene.sequences.begin(2)
    first, second, third = scene.call(one, "("), scene.call(one), scene.call(one, ")")
    elsewhere = scene.call(other, "(")
    assert scene.run() == [1, 4]
    scene.worker.answer(elsewhere)
    assert scene.run() == []
    scene.worker.answer(first)
    assert scene.run() == [2]
    scene.worker.answer(second)
    assert scene.run() == [3]
    assert not scene.worker.let_go_of
    scene.worker.answer(third)
    assert scene.worker.let_go_of == [one.number]
    assert scene.sequences.live == {other}


def test_a_worker_without_room_is_sent_nothing() -> None:
    scene = Scene()
    one = scene.sequences.begin(1)
    first = scene.call(one, "(")
    scene.run()
    scene.worker.answer(first)
    scene.call(one)
    assert scene.run(room=0) == []
    assert scene.run(room=1) == [2]


def test_a_call_given_up_before_it_was_sent_is_passed_over() -> None:
    scene = Scene()
    one = scene.sequences.begin(1)
    first = scene.call(one, "(")
    scene.run()
    given_up = scene.call(one, deadline_s=5.0)
    scene.call(one)
    scene.sequences.tick(6.0)
    assert error_of(given_up) is not None
    scene.worker.answer(first)
    assert scene.run() == [3]


def test_a_call_given_up_while_its_worker_has_it_keeps_the_next_one_waiting() -> None:
    scene = Scene()
    one = scene.sequences.begin(1)
    first = scene.call(one, "(", deadline_s=5.0)
    scene.run()
    scene.call(one)
    scene.sequences.tick(6.0)
    assert first.future.done()
    assert scene.run() == []
    scene.worker.answer(first)
    assert scene.run() == [2]


def test_a_sequence_whose_first_call_was_given_up_never_began() -> None:
    scene = Scene()
    one = scene.sequences.begin(1)
    scene.call(one, "(", deadline_s=5.0)
    second = scene.call(one)
    scene.sequences.tick(6.0)
    assert "never began" in str(error_of(second))
    assert one.lost
    assert not scene.sequences.live


def test_a_lost_sequence_tells_all_who_wait() -> None:
    scene = Scene()
    one = scene.sequences.begin("mic")
    calls = [scene.call(one, "("), scene.call(one), scene.call(one)]
    scene.run()
    scene.sequences.lose(one, "was lost with its worker")
    assert {str(error_of(call)) for call in calls} == {"the sequence 'mic' was lost with its worker: start it anew"}
    assert {type(error_of(call)) for call in calls} == {SequenceLostError}
    assert not scene.sequences.live


def test_there_are_no_more_than_may_be_and_the_idle_ones_make_room() -> None:
    scene = Scene(most=2, idle_s=60.0)
    one, other = scene.sequences.begin(1), scene.sequences.begin(2)
    with pytest.raises(BusyError, match="2 sequences"):
        scene.sequences.begin(3)
    work = scene.call(other, "(")
    scene.sequences.tick(one.last_used_s + 61)
    assert one.lost == "was dropped after 60 s without a call"
    assert not other.lost  # its call waits still
    assert not work.future.done()
    scene.sequences.begin(3)


def test_a_sequence_that_no_worker_began_goes_along_to_another_version() -> None:
    scene, successor = Scene(), Scene()
    one = scene.sequences.begin(1)
    first = scene.call(one, "(")
    scene.sequences.hand_over(one, successor.sequences)
    successor.free.append(first)
    assert successor.run() == [1]
    successor.worker.answer(first)
    assert (scene.sequences.live, successor.sequences.live) == (set(), {one})
