"""How many calls go to which worker, as tables."""

import pytest

from appliance.workers.dispatch import credit, share


@pytest.mark.parametrize(
    ("max_batch", "formed_calls", "call_s", "replicas", "most"),
    [
        (64, 1.0, 0.0, 1, 8),  # nothing is known: a few, to see whether they share runs
        (1, 1.0, 0.0, 1, 2),
        (64, 64.0, 1e-5, 1, 128),  # the batch it runs and the next one
        (64, 1.0, 1e-5, 1, 128),  # a lone caller so far, but its calls are quick: a burst may fill a batch
        (64, 1.0, 3.3e-3, 1, 4),  # a convolution: runs are not joined, so what waits, waits here
        (64, 8.0, 3.3e-3, 1, 32),  # joining pays: batches may grow
        (1, 1.0, 0.1, 1, 2),  # one worker is never to wait for the next call
        (1, 1.0, 0.1, 2, 1),  # of two, another may be free first
        (64, 4.0, 0.02, 3, 8),
        (1, 1.0, 1e-4, 4, 2),
    ],
)
def test_a_worker_holds_the_batch_it_runs_and_the_next_one_and_no_more(
    max_batch: int, formed_calls: float, call_s: float, replicas: int, most: int
) -> None:
    assert credit(max_batch, formed_calls=formed_calls, call_s=call_s, replicas=replicas) == most


@pytest.mark.parametrize(
    ("waiting", "held", "most", "given"),
    [
        (3, [0], 8, [3]),
        (30, [5], 8, [3]),
        (3, [9], 8, [0]),
        (10, [0, 0], 8, [5, 5]),  # idle workers share what there is
        (3, [0, 5], 8, [3, 0]),  # the emptiest first
        (7, [0, 5], 8, [6, 1]),
        (100, [2, 8, 0], 8, [6, 0, 8]),
        (1, [1, 1, 0], 2, [0, 0, 1]),
        (0, [0, 0], 8, [0, 0]),
    ],
)
def test_calls_go_to_the_emptiest_worker_first(waiting: int, held: list[int], most: int, given: list[int]) -> None:
    assert share(waiting, held, most) == given
