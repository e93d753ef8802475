"""The order in which waiting calls are taken."""

from appliance.core.errors import DeadlineError, IngleError
from appliance.core.frames import Invoke
from appliance.workers.work import Outcome, Work, WorkQueue


class Caller:
    """Who waits: remembers what it was told."""

    def __init__(self) -> None:
        self.told: Outcome | IngleError | None = None
        self.gone = False

    def done(self) -> bool:
        return self.gone or self.told is not None

    def set_result(self, result: Outcome, /) -> None:
        self.told = result

    def set_exception(self, exception: IngleError, /) -> None:
        self.told = exception


def work(number: int, *, priority: int = 5, deadline_s: float = 60.0) -> tuple[Work, Caller]:
    caller = Caller()
    made = Work(Invoke(number, 0, []), [], deadline_s, caller, 0)
    made.priority = priority
    return made, caller


def order(queue: WorkQueue) -> list[int]:
    taken = []
    while (next_work := queue.pop()) is not None:
        taken.append(next_work.invoke.call)
    return taken


def test_calls_alike_are_taken_as_they_came() -> None:
    queue = WorkQueue()
    for number in range(20):
        queue.push(work(number)[0])
    assert order(queue) == list(range(20))


def test_a_higher_priority_goes_first_and_then_the_earlier_deadline() -> None:
    queue = WorkQueue()
    queue.push(work(1, priority=5, deadline_s=10.0)[0])
    queue.push(work(2, priority=1, deadline_s=90.0)[0])
    queue.push(work(3, priority=5, deadline_s=5.0)[0])
    queue.push(work(4, priority=9, deadline_s=1.0)[0])
    assert order(queue) == [2, 3, 1, 4]


def test_a_call_whose_caller_has_gone_is_passed_over() -> None:
    queue = WorkQueue()
    gone, caller = work(1)
    queue.push(gone)
    queue.push(work(2)[0])
    caller.gone = True
    assert order(queue) == [2]


def test_calls_past_their_deadline_are_told_and_forgotten() -> None:
    queue = WorkQueue()
    late, caller = work(1, deadline_s=5.0)
    queue.push(late)
    queue.push(work(2, deadline_s=50.0)[0])
    queue.expire(5.0)
    assert isinstance(caller.told, DeadlineError)
    assert len(queue) == 1
    assert order(queue) == [2]


def test_what_would_be_taken_before_a_call_is_counted_by_priority() -> None:
    queue = WorkQueue()
    for number, priority in enumerate((1, 5, 5, 9)):
        queue.push(work(number, priority=priority)[0])
    assert [queue.ahead_of(priority) for priority in (0, 1, 5, 9)] == [0, 1, 3, 4]
