"""The day of an app that is called at lunch: calls a second over the day, and arrivals drawn from them.

Two bells of one hour's standard deviation, at half past twelve and, a third as high, at seven in the evening, over a
base that is set so that the day's average is 21 calls a second when its peak is 140.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

DAY_S = 86400
PEAK_PER_S = 140.0
AVERAGE_PER_S = 21.0
LUNCH_S = 12.5 * 3600
DINNER_S = 19.0 * 3600
DINNER_SHARE = 1 / 3
WIDTH_S = 3600.0

Rates = NDArray[np.float64]


def rates_per_s() -> Rates:
    """Calls a second to expect in each second of the day."""
    meals = _bell(LUNCH_S) + DINNER_SHARE * _bell(DINNER_S)
    meals = meals / meals.max()
    share = AVERAGE_PER_S / PEAK_PER_S
    base = (share - meals.mean()) / (1 - meals.mean())
    rates: Rates = PEAK_PER_S * (base + (1 - base) * meals)
    return rates


def _bell(middle_s: float) -> Rates:
    second = np.arange(DAY_S) + 0.5
    bell: Rates = np.exp(-(((second - middle_s) / WIDTH_S) ** 2) / 2)
    return bell


def arrivals_s(rates: Rates, seed: int) -> list[float]:
    """The times of the calls, in order: a Poisson process of these rates."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rates)
    times = np.repeat(np.arange(len(rates)), counts) + rng.uniform(size=counts.sum())
    times.sort()
    return list(times.tolist())


def hourly(rates: Rates) -> list[float]:
    """The highest rate of each hour."""
    edges = range(0, len(rates) + 1, 3600)
    return [float(rates[begin:end].max()) for begin, end in pairwise(edges)]
