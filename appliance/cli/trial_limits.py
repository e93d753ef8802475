"""The options that say when a new version is taken back, for the verbs that put one on trial."""

import functools
from collections.abc import Callable
from typing import Any

import click

from appliance.cli.quantities import Share
from appliance.client_answers import TrafficWish


def trial_limits(errors: str, latency: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds options so called, and `--least-calls`, and gives the verb what they say as `trial`, a wish of its own."""

    def add(verb: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(errors, "max_errors", type=Share(), default=0.0, metavar="2%", help="Back if more calls fail.")
        @click.option(
            latency,
            "max_latency",
            type=click.FloatRange(0, 1e6),
            default=0.0,
            metavar="1.5",
            help="Back if calls take so many times as long as the version's beside it.",
        )
        @click.option(
            "--least-calls",
            type=click.IntRange(1, 1_000_000),
            default=TrafficWish().least_calls,
            metavar="N",
            help="Calls before it is judged. [50]",
        )
        @functools.wraps(verb)
        def wrapped(*args: Any, max_errors: float, max_latency: float, least_calls: int, **kwargs: Any) -> Any:
            trial = TrafficWish(max_error_share=max_errors, max_latency_ratio=max_latency, least_calls=least_calls)
            return verb(*args, trial=trial, **kwargs)

        return wrapped

    return add
