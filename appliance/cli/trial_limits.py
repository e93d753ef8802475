"""The options that say when a new version is taken back, for the verbs that put one on trial."""

import functools
from collections.abc import Callable
from typing import Any

import click

from appliance.cli.quantities import Number, Share, WholeNumber, share_words
from appliance.client_answers import Traffic, TrafficWish


def limit_words(trial: TrafficWish | Traffic, beside: str) -> list[str]:
    """What takes the version on trial back, each as a clause; `beside` is the version that it is judged against."""
    limits = []
    if trial.max_error_share:
        limits.append(f"more than {share_words(trial.max_error_share)} of its calls fail")
    if trial.max_latency_ratio:
        limits.append(f"they take more than {trial.max_latency_ratio:.4g} times as long as those of {beside}")
    return limits


def trial_limits(errors: str, latency: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds options so called, and `--least-calls`, and gives the verb what they say as `trial`, a wish of its own."""

    def add(verb: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(errors, "max_errors", type=Share(), default=0.0, metavar="2%", help="Back if more calls fail.")
        @click.option(
            latency,
            "max_latency",
            type=Number(0, 1e6),
            default=0.0,
            metavar="1.5",
            help="Back if calls take so many times as long as the version's beside it.",
        )
        @click.option(
            "--least-calls",
            type=WholeNumber(1, 1_000_000),
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
