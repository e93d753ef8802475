"""How many of the calls that wait go to which worker now. Pure decisions; they run in the gateway for every call.

A call is bound as late as possible: a worker gets the batch that it runs and the next one, so that it never waits for
the gateway, and no more, so that what waits can still be cancelled, put in order, or taken by a worker that is free
sooner.
"""

from collections.abc import Sequence

# What a worker may hold beyond its batches: the work of so many seconds, which costs nobody a noticeable wait.
_AHEAD_S = 0.005
# Before anything is known of a model: enough to see whether its calls share runs, few enough to lose little if not.
_UNKNOWN_CALLS = 8


def credit(max_batch: int, *, formed_calls: float, call_s: float, replicas: int) -> int:
    """How many calls one worker may hold.

    `formed_calls`: how many shared a run lately; `call_s`: seconds that one takes, 0 where none has run yet. A worker
    whose calls do not share runs (a convolution, where joining does not pay) would otherwise hold two full batches of
    them in its socket. With several workers and runs of more than _AHEAD_S there is no next batch: the run's own time
    hides the hand-over, and another worker may be free first.
    """
    if not call_s:
        return min(2 * max_batch, _UNKNOWN_CALLS)
    batch = min(max_batch, 2 * max(1, round(formed_calls)))
    quick = int(_AHEAD_S / call_s)
    if replicas > 1 and quick < 1:
        return batch if max_batch > 1 else 1
    return max(2, min(2 * max_batch, max(2 * batch, quick)))


def share(waiting: int, held: Sequence[int], most: int) -> list[int]:
    """How many more calls each worker gets, given what each holds and may hold at most: the emptiest first, until all
    hold the same."""
    if len(held) == 1:
        return [max(0, min(waiting, most - held[0]))]
    given = [0] * len(held)
    for _ in range(min(waiting, sum(max(0, most - count) for count in held))):
        index = min(range(len(held)), key=lambda i: held[i] + given[i])
        given[index] += 1
    return given
