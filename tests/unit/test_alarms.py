"""Alarms go off in the order of their times, once, and not where they were cancelled."""

import asyncio
import logging
from collections.abc import Callable

import pytest
import uvloop

from appliance.workers.alarms import Alarms


class Clockwork:
    """A loop's clock and one timer, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, Clockwork.Handle]] = []

    class Handle:
        def __init__(self, what: Callable[[], None]) -> None:
            self.what, self.cancelled = what, False

        def cancel(self) -> None:
            self.cancelled = True

    def time(self) -> float:
        return self.now_s

    def call_at(self, at_s: float, what: Callable[[], None]) -> "Clockwork.Handle":
        handle = self.Handle(what)
        self.timers.append((at_s, handle))
        return handle

    @property
    def pending(self) -> list[float]:
        return sorted(at_s for at_s, handle in self.timers if not handle.cancelled)

    def pass_to(self, now_s: float) -> None:
        while self.pending and self.pending[0] <= now_s:
            self.now_s = self.pending[0]
            due = next(each for each in self.timers if each[0] == self.now_s and not each[1].cancelled)
            self.timers.remove(due)
            due[1].what()
        self.now_s = now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    made = Clockwork()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_alarms_go_off_in_the_order_of_their_times_and_the_loop_has_one_timer(clock: Clockwork) -> None:
    alarms, rung = Alarms(), []
    for after_s in (3.0, 1.0, 2.0, 1.0):
        alarms.call_later(after_s, lambda after_s=after_s: rung.append((after_s, clock.now_s)))  # type: ignore[misc]
        assert len(clock.pending) == 1
    clock.pass_to(2.5)
    assert rung == [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]
    assert clock.pending == [3.0]
    clock.pass_to(10.0)
    assert rung[3:] == [(3.0, 3.0)]
    assert clock.pending == []


def test_a_cancelled_alarm_does_not_go_off_even_where_another_of_its_time_cancels_it(clock: Clockwork) -> None:
    alarms, rung = Alarms(), []
    first = alarms.call_later(1.0, lambda: (rung.append("first"), second.cancel()))
    second = alarms.call_later(1.0, lambda: rung.append("second"))
    third = alarms.call_later(0.5, lambda: rung.append("third"))
    third.cancel()
    third.cancel()
    clock.pass_to(5.0)
    first.cancel()
    assert rung == ["first"]


def test_cancelled_alarms_are_not_kept_until_they_are_due(clock: Clockwork) -> None:
    alarms, rung = Alarms(), []
    alarms.call_later(50.0, lambda: rung.append("kept"))
    for _ in range(100_000):
        alarms.call_later(60.0, lambda: rung.append("cancelled")).cancel()
    assert len(alarms) < 2000
    clock.pass_to(100.0)
    assert rung == ["kept"]
    assert len(alarms) == 0


def test_an_alarm_may_set_another_and_one_that_fails_keeps_none_of_the_others(
    clock: Clockwork, caplog: pytest.LogCaptureFixture
) -> None:
    alarms, rung = Alarms(), []

    def fail() -> None:
        raise RuntimeError("of this alarm")

    alarms.call_later(1.0, fail)
    alarms.call_later(1.0, lambda: alarms.call_later(0.5, lambda: rung.append(clock.now_s)))
    alarms.call_later(4.0, lambda: rung.append(clock.now_s))
    with caplog.at_level(logging.ERROR):
        clock.pass_to(9.0)
    assert rung == [1.5, 4.0]
    assert "an alarm's work was not done" in caplog.text


@pytest.mark.parametrize("after_s", [float("nan"), float("inf"), 1e300])
def test_in_a_real_loop_an_alarm_of_a_time_that_never_comes_keeps_none_of_the_others(after_s: float) -> None:
    async def run() -> None:
        rung = asyncio.Event()
        alarms = Alarms()
        alarms.call_later(after_s, rung.clear)
        alarms.call_later(60.0, rung.set).cancel()
        alarms.call_later(0.001, rung.set)
        await asyncio.wait_for(rung.wait(), 30.0)

    uvloop.run(run())
