"""Which providers are tried, who holds the GPU's memory, and who goes where: tables."""

from pathlib import Path

import pytest

from appliance.core.errors import BadInputError
from appliance.workers.devices import CPU, CUDA, TENSORRT, attempts, missing, parse_device, providers_for, with_options
from appliance.workers.placement import Banned, Placed, place
from appliance.workers.vram_ledger import VramLedger, estimate_bytes, worth

ALL = (TENSORRT, CUDA, CPU)


@pytest.mark.parametrize(
    ("text", "listed", "tried"),
    [
        ("auto", ALL, (TENSORRT, CUDA, CPU)),
        ("tensorrt", ALL, (TENSORRT, CUDA, CPU)),
        ("cuda:1", ALL, (CUDA, CPU)),
        ("cpu", ALL, (CPU,)),
        ("auto", (CUDA, CPU), (CUDA, CPU)),
        ("auto", (CPU,), (CPU,)),
        ("cuda", (CPU,), (CPU,)),
    ],
)
def test_providers_are_tried_in_order_and_the_cpu_last(
    text: str, listed: tuple[str, ...], tried: tuple[str, ...]
) -> None:
    assert providers_for(parse_device(text), listed) == tried


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cpu:0", "auto:1", "CUDA", "cuda:1:2", "cuda:٣"])
def test_what_is_no_device_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(BadInputError, match="expected auto, cpu, cuda"):
        parse_device(text)


def test_a_gpu_that_onnxruntime_was_built_without_is_missed_only_where_it_was_asked_for() -> None:
    assert "install ingle" in missing(parse_device("cuda"), (CPU,))
    assert missing(parse_device("auto"), (CPU,)) == missing(parse_device("cuda"), ALL) == ""


def test_a_provider_that_does_not_start_leaves_those_behind_it() -> None:
    assert attempts(ALL) == [ALL, (CUDA, CPU), (CPU,)]


def test_each_provider_is_told_its_device_and_only_what_it_understands() -> None:
    options = dict(with_options(ALL, number=2, limit_bytes=7, engines=Path("/engines/kind/digest"), tf32=False))
    assert options[CPU] == {}
    assert options[CUDA]["device_id"] == options[TENSORRT]["device_id"] == "2"
    assert options[CUDA]["gpu_mem_limit"] == "7"
    assert options[TENSORRT]["trt_engine_cache_path"] == "/engines/kind/digest"
    assert options[TENSORRT]["trt_timing_cache_path"] == "/engines/kind"
    assert "gpu_mem_limit" not in dict(with_options(ALL, number=0, limit_bytes=0, engines=None, tf32=True))[CUDA]


def test_fp32_is_computed_as_tf32_only_where_the_owner_says_so() -> None:
    for tf32, told in ((False, "0"), (True, "1")):
        assert dict(with_options(ALL, number=0, limit_bytes=0, engines=None, tf32=tf32))[CUDA]["use_tf32"] == told


@pytest.mark.parametrize(
    ("budget", "used", "need", "idle", "fits", "evict"),
    [
        (100, {}, 100, {}, True, ()),
        (100, {1: 60}, 50, {}, False, ()),
        (100, {1: 60}, 50, {1: 1.0}, True, (1,)),
        (100, {1: 30, 2: 30, 3: 30}, 60, {1: 3.0, 2: 1.0, 3: 2.0}, True, (2, 3)),  # the least worthy first
        (100, {1: 90}, 200, {1: 1.0}, False, ()),  # none goes in vain
        (None, {1: 90}, 200, {}, True, ()),  # what cannot be measured is tried
    ],
)
def test_models_make_room_on_the_device_by_worth(
    budget: int | None, used: dict[int, int], need: int, idle: dict[int, float], fits: bool, evict: tuple[int, ...]
) -> None:
    room = VramLedger(budget, dict(used)).room_for(need, idle)
    assert (room.fits, room.evict, bool(room.reason)) == (fits, evict, not fits)


def test_what_is_free_is_for_models_but_for_a_tenth_and_what_they_hold_is_theirs() -> None:
    ledger = VramLedger()
    ledger.hold(1, 500)
    ledger.set_free(-1)
    assert ledger.left_bytes is None
    ledger.set_free(1000)
    assert (ledger.budget_bytes, ledger.left_bytes) == (1400, 900)


def test_what_a_model_will_grow_to_is_not_given_away_before_it_has_run() -> None:
    ledger = VramLedger()
    ledger.reckon(1, 500)
    ledger.hold(1, 300, at_least_bytes=500)
    ledger.set_free(1000)
    assert ledger.left_bytes == 700
    ledger.hold(1, 550)
    ledger.set_free(750)
    assert ledger.left_bytes == 675
    ledger.drop(1)
    ledger.set_free(1300)
    assert ledger.left_bytes == 1170


def test_a_model_is_reckoned_by_its_file_until_it_was_measured() -> None:
    assert estimate_bytes(100 * 2**20, 0) == 328 * 2**20
    assert estimate_bytes(100 * 2**20, 5) == 5


def test_worth_is_what_reloading_costs_for_each_byte() -> None:
    usual = {"calls": 10, "age_s": 100.0, "idle_s": 1.0, "load_s": 1.0, "used_bytes": 100}
    assert worth(**usual) > worth(**usual | {"calls": 1})  # type: ignore[arg-type]
    assert worth(**usual) > worth(**usual | {"idle_s": 50.0})  # type: ignore[arg-type]
    assert worth(**usual) > worth(**usual | {"load_s": 0.1})  # type: ignore[arg-type]
    assert worth(**usual) > worth(**usual | {"used_bytes": 1000})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "banned", "expected"),
    [
        ("", None, Placed(True)),
        ("no driver", None, Placed(False, (), "no driver")),
        ("", Banned("it crashed"), Placed(False, (), "it crashed")),
        ("", Banned("too large", until_s=9.0), Placed(True)),  # over since
        ("", Banned("too large", until_s=11.0), Placed(False, (), "too large")),
    ],
)
def test_a_model_goes_to_the_device_unless_something_speaks_against_it(
    fault: str, banned: Banned | None, expected: Placed
) -> None:
    placed = place(
        device_fault=fault,
        banned=banned,
        size_bytes=1,
        measured_bytes=0,
        ledger=VramLedger(),
        worth={},
        now_s=10.0,
    )
    assert placed == expected
