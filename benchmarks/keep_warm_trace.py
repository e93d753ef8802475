"""A trace of calls to many models, made from a seed: what the keep-warm policies are judged by.

Its constants were fixed before any policy was tuned. Rates follow Zipf's law with the median model called once an hour
(of Azure's functions 45 % are called less often than that: Shahrad et al., 2020). A third of the models each: steady
(a Poisson process), daily (its rate is the upper half of a cosine of the day, at a phase of its own) and bursty (bursts
come as a Poisson process). Sizes and cold starts are spread evenly over the logarithm of two decades, independently.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MODELS = 200
DAYS = 3
ZIPF_EXPONENT = 1.5
MEDIAN_CALLS_PER_S = 1 / 3600
SIZES_BYTES = (10e6, 1e9)
COLD_STARTS_S = (0.1, 10.0)
BURST_CALLS = 20  # on average
BURST_GAP_S = 10.0  # on average, between a burst's calls
BUDGET_MODELS = 20  # of average size
DAY_S = 86400.0

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """Calls in the order of their times; `models[n]` is called at `times_s[n]`."""

    sizes_bytes: list[int]
    cold_starts_s: list[float]
    times_s: list[float]
    models: list[int]

    @property
    def budget_bytes(self) -> int:
        return BUDGET_MODELS * sum(self.sizes_bytes) // len(self.sizes_bytes)


def make_trace(seed: int, *, days: float = DAYS, cold_starts_follow_size: bool = False) -> Trace:
    """The same trace for the same arguments. `cold_starts_follow_size` makes each proportional to the model's size,
    so that nothing is to be gained by telling dear models from cheap ones."""
    rng = np.random.default_rng(seed)
    ranks = rng.permutation(MODELS) + 1
    rates = MEDIAN_CALLS_PER_S * (ranks / (MODELS / 2)) ** -ZIPF_EXPONENT
    kinds = rng.permutation(MODELS) % 3
    sizes = _log_uniform(rng, SIZES_BYTES)
    cold_starts = _log_uniform(rng, COLD_STARTS_S)
    if cold_starts_follow_size:
        cold_starts = sizes / SIZES_BYTES[1] * COLD_STARTS_S[1]
    making = (_steady, _daily, _bursty)
    calls = [making[kind](rng, rate, days * DAY_S) for kind, rate in zip(kinds, rates, strict=True)]
    times = np.concatenate(calls)
    models = np.repeat(np.arange(MODELS), [len(each) for each in calls])
    order = np.argsort(times, kind="stable")
    return Trace([int(size) for size in sizes], cold_starts.tolist(), times[order].tolist(), models[order].tolist())


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> Times:
    return np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), MODELS))


def _steady(rng: np.random.Generator, rate: float, length_s: float) -> Times:
    return rng.uniform(0, length_s, rng.poisson(rate * length_s))


def _daily(rng: np.random.Generator, rate: float, length_s: float) -> Times:
    """By thinning a process of the highest rate: the mean of a cosine's upper half over the day is 1/pi."""
    peak_s = rng.uniform(0, DAY_S)
    candidates = _steady(rng, np.pi * rate, length_s)
    share = np.maximum(0, np.cos(2 * np.pi * (candidates - peak_s) / DAY_S))
    return candidates[rng.uniform(size=len(candidates)) < share]


def _bursty(rng: np.random.Generator, rate: float, length_s: float) -> Times:
    starts = _steady(rng, rate / BURST_CALLS, length_s)
    bursts = [start + np.cumsum(rng.exponential(BURST_GAP_S, rng.geometric(1 / BURST_CALLS))) for start in starts]
    times = np.concatenate([*bursts, np.empty(0)])
    return times[times < length_s]
