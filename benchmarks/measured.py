"""What one round of load measured, and how rounds of several contestants are interleaved.

Other work may share the machine, so a figure alone says little: contestants take turns in short rounds, each pair of
turns gives a ratio, and the median of the ratios is what is reported. Runs in the benchmark's process.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WARM_UP_S = 0.4


class LoadError(Exception):
    """The round is void: a server refused, answered wrongly or went away."""


@dataclass(frozen=True)
class Measured:
    """One round. `p50_s` and `p99_s` are seconds of one call as its caller saw it."""

    calls_per_s: float
    p50_s: float
    p99_s: float

    @classmethod
    def of(cls, durations_s: Sequence[float], elapsed_s: float) -> "Measured":
        """Raises LoadError where fewer than two calls were answered."""
        if len(durations_s) < 2:
            raise LoadError(f"only {len(durations_s)} calls were answered in {elapsed_s:.1f} s")
        centiles = statistics.quantiles(durations_s, n=100, method="inclusive")
        return cls(len(durations_s) / elapsed_s, centiles[49], centiles[98])


Turns = Mapping[str, list[Measured]]


def interleave(contestants: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """`rounds` turns of each, every other round in reverse order, so that drift hits all alike."""
    turns: dict[str, list[Measured]] = {name: [] for name in contestants}
    names = list(contestants)
    for index in range(rounds):
        for name in names if index % 2 == 0 else reversed(names):
            turns[name].append(contestants[name]())
    return turns


def median_of(turns: Sequence[Measured], value: Callable[[Measured], float]) -> float:
    return statistics.median(value(turn) for turn in turns)


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> "Ratio":
        """Round by round: `above[i] / below[i]`."""
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def median_of_numbers(values: Sequence[float]) -> float:
    return statistics.median(values)
