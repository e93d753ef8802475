"""How many rows a device runs, against a device whose changes of shape and rows cost what a table says."""

import random
from collections.abc import Iterable

import pytest

from appliance.workers.batching import Form
from appliance.workers.steady_rows import LITTLE_S, SteadyRows

FORM: Form = (("x", "FP32", (3,)),)
OTHER: Form = (("x", "FP32", (4,)),)
READY_S = 0.3


class Device:
    """Takes `run_s` and `row_s` for each row, and `change_s` where the shape is another than before."""

    def __init__(self, *, change_s: float, run_s: float = 2e-3, row_s: float = 1e-5, max_rows: int = 64) -> None:
        self.steady = SteadyRows(max_rows)
        self._costs = change_s, run_s, row_s
        self._shape: tuple[Form, int] | None = None
        self.spent_s = 0.0
        self.changes = 0

    def run(self, wanted: int, form: Form = FORM) -> int:
        rows = self.steady.rows(form, wanted)
        assert rows >= wanted
        change_s, run_s, row_s = self._costs
        took_s = run_s + row_s * rows
        if changed := (form, rows) != self._shape:
            took_s += change_s if self._shape else READY_S
            self.changes += 1
        self._shape = (form, rows)
        self.spent_s += took_s
        assert self.steady.ran(form, rows, wanted, took_s) is not changed
        return rows

    def runs(self, wanted: Iterable[int], form: Form = FORM) -> list[int]:
        return [self.run(each, form) for each in wanted]


def test_runs_are_filled_up_to_what_was_run_before_where_changes_are_dear() -> None:
    device = Device(change_s=50e-3)
    assert device.runs([1, 1, 3, 2, 4, 1, 3, 7, 4, 8]) == [1, 1, 4, 4, 4, 4, 4, 8, 8, 8]


def test_runs_have_their_own_rows_where_a_change_is_no_matter() -> None:
    device = Device(change_s=LITTLE_S / 2)
    device.runs([1, 1, 3, 3])  # by which it is known
    assert device.runs([1, 3, 2, 7, 33]) == [1, 3, 2, 7, 33]


def test_a_first_change_that_was_dear_for_once_is_forgotten() -> None:
    device = Device(change_s=0.0, row_s=1e-3)
    device.runs([1, 1])
    device._costs = 30e-3, *device._costs[1:]
    device.run(4)
    device._costs = 0.0, *device._costs[1:]
    for wanted in (1, 8, 2, 16, 1, 32, 1):
        device.runs([wanted] * 100)
    assert device.runs([1, 3, 5]) == [1, 3, 5]


def test_rows_shrink_once_the_copies_have_cost_what_a_change_costs() -> None:
    device = Device(change_s=50e-3, run_s=1e-3, row_s=1e-4)
    device.runs([1, 1, 32, 32])
    taken = device.runs([1] * 40)
    # 3.1 ms of copies a run, 50 for the change.
    assert taken.index(1) == 17
    assert set(taken[17:]) == {1}


def test_rows_shrink_no_further_than_what_was_wanted_meanwhile() -> None:
    device = Device(change_s=5e-3, run_s=1e-3, row_s=1e-4)
    device.runs([1, 1, 32, 32])
    assert set(device.runs([1, 6, 2, 5] * 30)[-20:]) == {8}


@pytest.mark.parametrize(("wanted", "ran"), [(65, 65), (64, 64), (40, 48), (48, 48), (100, 100)])
def test_runs_are_filled_up_to_no_more_than_the_limit_and_a_larger_call_runs_as_it_is(wanted: int, ran: int) -> None:
    device = Device(change_s=50e-3, max_rows=48 if wanted in (40, 48) else 64)
    device.runs([1, 1])
    assert device.run(wanted) == ran


def test_a_call_beyond_the_limit_leaves_no_size_to_fill_up_to() -> None:
    device = Device(change_s=50e-3)
    device.runs([1, 1, 4, 4, 200])
    assert device.run(3) == 4


def test_another_form_is_another_shape() -> None:
    device = Device(change_s=50e-3)
    device.runs([1, 1, 32])
    assert device.runs([2, 3], OTHER) == [2, 4]
    assert device.run(1) == 1


def test_whatever_comes_costs_little_more_than_twice_what_the_best_of_all_sizes_would() -> None:
    for seed in range(20):
        dice = random.Random(seed)
        wanted: list[int] = []
        while len(wanted) < 3000:
            top = dice.choice([1, 2, 4, 16, 64])
            wanted += [dice.randint(1, top) for _ in range(dice.randint(20, 400))]
        device = Device(change_s=50e-3, run_s=1e-3, row_s=1e-4)
        device.runs(wanted)
        always_full_s = READY_S + len(wanted) * (1e-3 + 64 * 1e-4)
        each_its_own_s = sum(1e-3 + rows * 1e-4 for rows in wanted)
        assert device.spent_s <= 1.01 * always_full_s
        assert device.spent_s <= READY_S + 2.5 * each_its_own_s + 50e-3 * len(wanted) / 10
        assert device.changes < len(wanted) / 10
