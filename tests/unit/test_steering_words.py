"""What people say of scale and traffic on a command line, as wishes, and what is said of them."""

import click
import pytest

from appliance.cli.quantities import Number, Seconds, Share, WholeNumber, duration_words, rate_words, share_words
from appliance.cli.scale import changed as rescaled
from appliance.cli.scale import scale_words
from appliance.cli.traffic import changed, sentences
from appliance.client_answers import Scale, Traffic, TrafficWish


@pytest.mark.parametrize(
    ("said", "share"),
    [("5%", 0.05), ("0.5%", 0.005), ("100%", 1.0), ("0%", 0.0), ("0.25", 0.25), ("1", 1.0), ("0", 0.0)],
)
def test_a_share_is_a_percentage_or_a_part_of_one(said: str, share: float) -> None:
    assert Share().convert(said, None, None) == pytest.approx(share)


@pytest.mark.parametrize("said", ["", "5", "101%", "-1%", "1.5", "5 per cent", "nan", "٥%", "1e-1"])
def test_what_is_no_share_is_said_to_be_none(said: str) -> None:
    with pytest.raises(click.BadParameter, match="expected 5%"):
        Share().convert(said, None, None)


@pytest.mark.parametrize(
    ("said", "seconds"), [("50ms", 0.05), ("0.5s", 0.5), ("2min", 120.0), ("3", 3.0), ("250us", 0.00025), ("0", 0.0)]
)
def test_a_time_has_its_unit_or_is_in_seconds(said: str, seconds: float) -> None:
    assert Seconds(3600).convert(said, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("said", ["", "soon", "-1s", "5 h", "inf", "1e3", "61min"])
def test_what_is_no_time_or_too_long_is_refused(said: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds(3600).convert(said, None, None)


def test_a_time_that_is_too_short_is_refused_with_the_least() -> None:
    with pytest.raises(click.BadParameter, match=r"expected 0\.5 seconds or more"):
        Seconds(3600, least_s=0.5).convert("0", None, None)


@pytest.mark.parametrize(("kind", "word"), [(Number(0, 1), "number"), (WholeNumber(0, 1), "whole number")])
def test_what_is_no_number_is_called_so(kind: click.ParamType[float], word: str) -> None:
    with pytest.raises(click.BadParameter, match=f"'many' is not a valid {word}"):
        kind.convert("many", None, None)


def test_quantities_are_shown_with_three_figures_in_the_unit_that_suits() -> None:
    shown = [duration_words(value) for value in (0.0, 12.3e-6, 999.9e-6, 0.0031, 0.25, 1.5, 90.0, 4000.0)]
    assert shown == ["", "12.3 µs", "1 ms", "3.1 ms", "250 ms", "1.5 s", "90 s", "4000 s"]
    assert [rate_words(value) for value in (0, 0.012, 0.4, 12.34, 99.96, 1240)] == [
        "",
        "0.012",
        "0.4",
        "12.3",
        "100",
        "1,240",
    ]
    assert [share_words(value) for value in (0, 0.0025, 0.05, 1)] == ["0%", "0.25%", "5%", "100%"]


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        (Scale(), (1, 4, 0.05, None), Scale(1, 4, 0.05)),
        (Scale(2, 4, 0.05), (None, None, 0.1, None), Scale(2, 4, 0.1)),
        (Scale(0, 4, 0.0), (None, None, None, True), Scale(1, 4, 0.0)),
        (Scale(3, 4, 0.0), (None, None, None, True), Scale(3, 4, 0.0)),
        (Scale(3, 4, 0.0), (None, None, None, False), Scale(0, 4, 0.0)),
        (Scale(3, 4, 0.5), (0, 0, 0.0, None), Scale()),
    ],
)
def test_what_is_not_said_of_a_scale_stays(
    before: Scale, said: tuple[int | None, int | None, float | None, bool | None], after: Scale
) -> None:
    assert rescaled(before, *said) == after


def test_a_scale_is_told_in_words() -> None:
    assert scale_words(Scale()) == "as the node decides"
    assert scale_words(Scale(1, 4, 0.05)) == "at least 1 always warm, at most 4, calls within 50 ms"


CANARY = TrafficWish(canary="1.1.0", canary_share=0.05, max_error_share=0.02)


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        (TrafficWish(), {"canary": "1.1", "share": 0.05}, TrafficWish(canary="1.1", canary_share=0.05)),
        (CANARY, {"share": 0.5}, TrafficWish(canary="1.1.0", canary_share=0.5, max_error_share=0.02)),
        (CANARY, {"canary": "1.2"}, TrafficWish(canary="1.2", canary_share=0.05, max_error_share=0.02)),
        (CANARY, {"canary": "none"}, TrafficWish(max_error_share=0.02)),
        (CANARY, {"max_errors": 0.0}, TrafficWish(canary="1.1.0", canary_share=0.05)),
        (TrafficWish(), {"shadow": "2", "shadow_share": 0.1}, TrafficWish(shadow="2", shadow_share=0.1)),
        (TrafficWish(shadow="2", shadow_share=0.1), {"shadow": "none"}, TrafficWish()),
    ],
)
def test_what_is_not_said_of_traffic_stays(before: TrafficWish, said: dict[str, object], after: TrafficWish) -> None:
    assert changed(before, **said) == after  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"share": 0.05}, "--canary"),
        ({"canary": "1.1"}, "--share 5%"),
        ({"shadow_share": 0.1}, "--shadow"),
        ({"return_to": "1.0"}, "--max-errors"),
    ],
)
def test_half_a_wish_is_asked_for_the_other_half(said: dict[str, object], word: str) -> None:
    with pytest.raises(click.UsageError, match=word):
        changed(TrafficWish(), **said)  # type: ignore[arg-type]


def test_traffic_is_told_in_sentences() -> None:
    traffic = Traffic(
        model="me/iris",
        default="1.0.0",
        canary="1.1.0",
        canary_share=0.05,
        shadow="1.2.0",
        shadow_share=0.1,
        max_error_share=0.02,
        max_latency_ratio=1.5,
    )
    assert sentences(traffic) == [
        "Calls of me/iris without a version: 95% to 1.0.0, the default, 5% to 1.1.0, the canary.",
        "Copies of 10% of them go to 1.2.0, the shadow.",
        (
            "1.1.0 gets no more calls if more than 2% of its calls fail or they take more than 1.5 times as long as "
            "those of 1.0.0, judged from 50 calls on."
        ),
    ]
    back = Traffic(model="me/iris", default="1.1.0", return_to="1.0.0", max_error_share=0.02, ended="")
    assert sentences(back)[-1].startswith("1.0.0 is the default again if more than 2% of its calls fail")
    ended = Traffic(model="me/iris", default="1.0.0", ended="it failed")
    assert sentences(ended)[-1] == "Taken back: it failed."
