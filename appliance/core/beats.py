"""When what is done again and again is done next, so that a process that is idle wakes once for all of it.

Pure; any process. Whoever looks after something every so often and not at a given moment goes by the multiples of his
period: the event loop's timers then run out together, instead of one by one.
"""


def until_beat_s(now_s: float, period_s: float) -> float:
    """Seconds from `now_s`, by the loop's clock, to the next multiple of the period; at least half a period."""
    left_s = period_s - now_s % period_s
    return left_s if left_s >= period_s / 2 else left_s + period_s
