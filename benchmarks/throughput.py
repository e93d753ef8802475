"""Calls a second of the node over those of a bare server, one wire at a time: what both throughput benchmarks share.

Both sides have both cores, the load generator among them, and nothing is pinned.
"""

from collections.abc import Callable, Mapping

from benchmarks.measured import Measured, Ratio, Turns, interleave, median_of
from benchmarks.report import microseconds, whole

ROUNDS = 9
SECONDS = 2.0
CONCURRENCY = 32


def compare(
    contestants: Mapping[str, Callable[[], Measured]], against: Mapping[str, str], rounds: int = ROUNDS
) -> tuple[Turns, dict[str, Ratio]]:
    """The turns, and for each contestant of `against` the ratio of its calls a second to the other's."""
    turns = interleave(contestants, rounds)
    calls = {name: [turn.calls_per_s for turn in own] for name, own in turns.items()}
    return turns, {name: Ratio.of(calls[name], calls[other]) for name, other in against.items()}


def rows_of(turns: Turns, ratios: Mapping[str, Ratio]) -> list[tuple[str, ...]]:
    """A row for each contestant: calls a second, p50, p99, ratio."""
    return [
        (
            name,
            whole(median_of(own, lambda turn: turn.calls_per_s)),
            microseconds(median_of(own, lambda turn: turn.p50_s)),
            microseconds(median_of(own, lambda turn: turn.p99_s)),
            str(ratios.get(name, "")),
        )
        for name, own in turns.items()
    ]


COLUMNS = ("", "calls a second", "p50, µs", "p99, µs", "ratio")
