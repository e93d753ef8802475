"""Quantities as people write them on a command line, `5%` and `50ms`, into numbers. Knows no verb."""

import re
from typing import Any

import click

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%|(0(?:\.\d{1,8})?|1(?:\.0{1,8})?)", re.ASCII)
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(us|ms|s|min)?", re.ASCII)
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, None: 1.0}


class Number(click.FloatRange):
    """A number within bounds, called so where what was said is none."""

    name = "number"


class WholeNumber(click.IntRange):
    """The same without a fraction."""

    name = "whole number"


class Share(click.ParamType[float]):
    """`5%` or `0.05`: a part of a whole, from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _SHARE.fullmatch(value.strip())
        share = -1.0 if match is None else float(match[1]) / 100 if match[1] else float(match[2])
        if not 0 <= share <= 1:
            self.fail(f"'{value}' is no share: expected 5%, or 0.05, from 0% to 100%", param, ctx)
        return share


class Seconds(click.ParamType[float]):
    """`50ms`, `0.5s`, `2min`, or a bare number of seconds; from `least_s` to `most_s`."""

    name = "time"

    def __init__(self, most_s: float, *, least_s: float = 0.0) -> None:
        self._most_s, self._least_s = most_s, least_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _TIME.fullmatch(value.strip())
        if match is None:
            self.fail(
                f"'{value}' is no time: expected a number with us, ms, s or min behind it, such as 50ms", param, ctx
            )
        seconds = float(match[1]) * _UNIT_S[match[2]]
        if seconds > self._most_s:
            self.fail(f"'{value}' is more than the {self._most_s:g} seconds that make sense here", param, ctx)
        if seconds < self._least_s:
            self.fail(f"'{value}' is too short: expected {self._least_s:g} seconds or more", param, ctx)
        return seconds


def share_words(share: float) -> str:
    """`5%`, `0.25%`."""
    return f"{share * 100:.4g}%"


def duration_words(seconds: float) -> str:
    """`3.1 ms`: three figures, in the unit that suits; nothing for 0, which stands for what was not measured."""
    if seconds <= 0:
        return ""
    for unit, size_s in (("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size_s:
            return f"{seconds / size_s:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:.0f} s"


def rate_words(per_s: float) -> str:
    """`1,240`, `12.3`, `0.4`; nothing for none."""
    if not per_s:
        return ""
    return f"{per_s:,.0f}" if per_s >= 99.95 else f"{per_s:.1f}" if per_s >= 0.1 else f"{per_s:.2g}"
