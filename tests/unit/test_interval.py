"""What happened between two looks at a node, and the page that shows it on terminals of all sizes."""

import pytest

from appliance.cli.interval import Look, Shown, SortKey, between
from appliance.cli.top_screen import page, uptime_words
from appliance.client_answers import Activity, ModelActivity, NodeMemory, WorkerCounts
from appliance.observability.statistics import DURATION_BUCKETS


def model(name: str, answered: int = 0, *, failed: int = 0, bits: int = 20, **fields: object) -> ModelActivity:
    """All of its calls took a time of so many bits of nanoseconds: 20 bits are 0.5 to 1 ms."""
    durations = [0] * DURATION_BUCKETS
    durations[bits] = answered
    given = {"state": "warm", "replicas": 1} | fields
    return ModelActivity(name, "1.0.0", answered=answered, failed=failed, durations=durations, **given)  # type: ignore[arg-type]


def look(at_s: float, *models: ModelActivity, uptime_s: float | None = None) -> Look:
    memory, workers = NodeMemory(1000, 400, 50), WorkerCounts(7, 1, 2, 3, 0)
    uptime_s = at_s if uptime_s is None else uptime_s
    return Look(Activity("box", "1.0", uptime_s, 4, memory, workers, list(models)), at_s)


def test_rates_and_latencies_are_of_the_interval_alone() -> None:
    before = look(10, model("me/a", 1000, failed=5, bits=30))
    now = look(12, model("me/a", 1000, failed=9, bits=30))
    now.activity.models[0].answered += 500
    now.activity.models[0].durations[20] += 500
    (line,) = between((before, now)).models
    assert (line.calls_per_s, line.failed_per_s) == (250, 2)
    assert 0.0005 < line.p50_s < line.p99_s < 0.00105


def test_one_look_alone_has_no_interval_and_the_nodes_own_rate() -> None:
    shown = between((look(10, model("me/a", 1000, arrivals_per_s=3.0)),))
    assert (shown.interval_s, shown.models[0].calls_per_s, shown.models[0].p99_s) == (0, 3.0, 0)


def test_a_node_that_was_started_anew_begins_its_interval_anew() -> None:
    shown = between((look(100, model("me/a", 1000)), look(101, model("me/a", 10), uptime_s=0.5)))
    assert (shown.interval_s, shown.models[0].calls_per_s) == (0, 0)


def test_a_version_that_woke_or_was_made_again_in_between_has_the_nodes_own_rate() -> None:
    woke = between((look(10), look(11, model("me/a", 1000, arrivals_per_s=4.0))))
    made = between((look(10, model("me/a", 1000)), look(11, model("me/a", 3, arrivals_per_s=3.0))))
    assert (woke.models[0].calls_per_s, made.models[0].calls_per_s) == (4.0, 3.0)


def test_processor_time_is_taken_over_all_looks_since_the_node_reads_it_once_a_second() -> None:
    looks = [look(at, model("me/a", cpu_s=cpu)) for at, cpu in ((10, 1.0), (11, 1.0), (12, 3.0), (13, 3.0), (14, 3.0))]
    assert between(looks).models[0].cpu == 0.5


@pytest.mark.parametrize(
    ("sort", "first"), [("rate", "me/often"), ("memory", "me/large"), ("p99", "me/slow"), ("worth", "me/worthy")]
)
def test_the_largest_stands_first(sort: SortKey, first: str) -> None:
    models = {"me/often": {}, "me/large": {"memory_bytes": 9}, "me/slow": {}, "me/worthy": {"worth": 9.0}}
    before = look(1, *(model(name, **fields) for name, fields in models.items()))  # type: ignore[arg-type]
    now = look(
        2,
        model("me/often", 9),
        model("me/large", memory_bytes=9),
        model("me/slow", 1, bits=33),
        model("me/worthy", worth=9.0),
    )
    shown = between((before, now), sort=sort)
    assert shown.models[0].model == first
    assert [line.model for line in shown.models[-2:]] == sorted(line.model for line in shown.models[-2:])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["me/a", "me/b", "you/a"]),
        ("me/*", ["me/a", "me/b"]),
        ("you", ["you/a"]),
        ("*/a", ["me/a", "you/a"]),
        ("x", []),
    ],
)
def test_models_are_chosen_by_a_pattern_or_a_part_of_their_name(pattern: str, names: list[str]) -> None:
    shown = between((look(1, model("me/a"), model("me/b"), model("you/a")),), pattern=pattern)
    assert [line.model for line in shown.models] == names
    assert (shown.hidden, shown.replicas) == (3 - len(names), 3)


def many(count: int) -> Shown:
    return between(
        (look(1, *(model(f"me/{number:03}-a-model-with-quite-a-name", reason="why") for number in range(count))),)
    )


@pytest.mark.parametrize("width", [1, 10, 24, 40, 80, 132, 300])
@pytest.mark.parametrize("height", [1, 4, 5, 6, 24])
def test_a_page_fits_its_terminal(width: int, height: int) -> None:
    lines = page(many(50), width=width, height=height)
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_what_does_not_fit_is_counted() -> None:
    lines = [line.plain for line in page(many(50), width=100, height=24)]
    assert lines[-1] == f"and {50 - sum('/0' in line for line in lines)} more"
    assert "more" not in page(many(3), width=100, height=24)[-1].plain


def test_a_narrow_terminal_loses_what_matters_least() -> None:
    heads = {width: page(many(3), width=width, height=24)[4].plain.split() for width in (300, 60, 30)}
    assert {"REASON", "WORTH", "STATE"} <= set(heads[300])
    assert "STATE" in heads[60]
    assert "WORTH" not in heads[60]
    assert heads[30][0] == "MODEL"


def test_a_node_without_models_says_so() -> None:
    assert page(between((look(1),)), width=80, height=24)[-1].plain == "no model is warm or called"
    filtered = between((look(1, model("me/a")),), pattern="x")
    assert "none of 1" in page(filtered, width=80, height=24)[-1].plain


def test_uptime_is_told_in_the_two_largest_units() -> None:
    assert [uptime_words(s) for s in (40, 300, 7500, 273600)] == ["40s", "5min", "2h 5min", "3d 4h"]
