"""When rows are joined, from what runs have taken: as tables."""

import pytest

from appliance.workers.batch_gain import BatchGain


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        pytest.param([], 64, id="nothing is known yet, so all that waits is joined"),
        pytest.param([(1, 0.010)], 64, id="only single runs are known, so joining is tried"),
        pytest.param([(8, 0.080)], 1, id="only joined runs are known and they are long, so a single one is tried"),
        pytest.param([(8, 0.0008)], 64, id="short runs are always joined"),
        pytest.param([(1, 0.010), (4, 0.040)], 1, id="joining gains nothing"),
        pytest.param([(1, 0.010), (4, 0.039)], 1, id="joining gains too little"),
        pytest.param([(1, 0.010), (4, 0.020)], 64, id="joining pays"),
        pytest.param([(1, 0.010), (2, 0.021), (64, 0.200)], 64, id="joining pays once there are enough rows"),
        pytest.param([(1, 0.0005), (4, 0.002)], 64, id="a row is short, so joining cannot hurt"),
    ],
)
def test_rows_are_joined_where_it_pays(runs: list[tuple[int, float]], rows: int) -> None:
    gain = BatchGain()
    for size, run_s in runs:
        gain.record(size, run_s)
    assert gain.useful_rows(64) == rows


def test_what_was_given_up_is_tried_again_and_ever_more_seldom() -> None:
    gain = BatchGain()
    gain.record(1, 0.010)
    gain.record(4, 0.040)
    tried = [index for index in range(1, 4001) if gain.useful_rows(64) == 64]
    assert [later - before for before, later in zip([0, *tried], tried, strict=False)] == [
        64,
        128,
        256,
        512,
        1024,
        1024,
    ]


def test_a_machine_that_changes_changes_the_decision() -> None:
    gain = BatchGain()
    gain.record(1, 0.010)
    gain.record(4, 0.040)
    for _ in range(20):
        gain.record(4, 0.012)
    assert gain.useful_rows(64) == 64


def test_what_pays_again_is_given_up_anew_for_a_short_while_only() -> None:
    gain = BatchGain()
    gain.record(1, 0.010)
    gain.record(4, 0.040)
    while gain.useful_rows(64) == 1:
        pass
    for _ in range(20):
        gain.record(4, 0.012)
    assert gain.useful_rows(64) == 64
    for _ in range(20):
        gain.record(4, 0.040)
    assert [gain.useful_rows(64) for _ in range(64)] == [1] * 63 + [64]
