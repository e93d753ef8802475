"""Which of the calls that wait in a worker share the next run. A pure decision.

Greedy: there is no timer. What has arrived by the time the worker is free runs together, as far as it can.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Form = tuple[tuple[str, str, tuple[int, ...]], ...]  # (name, dtype, shape without the batch axis) by name


class Batchable(Protocol):
    """What is known of a call. `form` None: it runs alone."""

    @property
    def form(self) -> Form | None: ...
    @property
    def rows(self) -> int: ...


class Batch(NamedTuple):
    """The indices of the calls that run together, and of those that wait on, both in order of arrival."""

    run: list[int]
    wait: list[int]


def next_batch(calls: Sequence[Batchable], max_rows: int) -> Batch:
    """The oldest call, and with it every later one of the same form while the rows stay within `max_rows`.

    The oldest always runs, however many rows it has: it was admitted, and splitting one call would change its answer's
    arithmetic. Calls of another form keep their order for the next run, so none waits for ever.
    """
    first = calls[0]
    if first.form is None or first.rows >= max_rows:
        return Batch([0], list(range(1, len(calls))))
    rows, run, wait = first.rows, [0], []
    for index in range(1, len(calls)):
        call = calls[index]
        if call.form == first.form and rows + call.rows <= max_rows:
            rows += call.rows
            run.append(index)
        else:
            wait.append(index)
    return Batch(run, wait)
