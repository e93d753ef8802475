"""When a model's worker is started, started again, ended, or its model set aside. Pure decisions over a snapshot.

Times are seconds of one monotonic clock.
"""

from typing import Literal, NamedTuple

MAX_CONSECUTIVE_DEATHS = 5
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 10.0
SET_ASIDE_S = 300.0
LOAD_LIMIT_S = 300.0


class History(NamedTuple):
    """What has become of a model's workers. A success is any answer, also one that the worker lived to say no with."""

    consecutive_deaths: int = 0
    last_death_s: float = 0.0

    def died(self, now_s: float) -> "History":
        return History(self.consecutive_deaths + 1, now_s)

    def succeeded(self) -> "History":
        return self if not self.consecutive_deaths else History()


class Start(NamedTuple):
    """Whether a worker may start now; if not, when (`at_s`) or that the model is set aside until then."""

    verdict: Literal["now", "later", "set_aside"]
    at_s: float


def may_start(history: History, now_s: float) -> Start:
    """The first death costs nothing, so that one bad call does not make the next one wait; then the wait doubles.

    After MAX_CONSECUTIVE_DEATHS with no success between, the model is set aside for SET_ASIDE_S; one more worker is
    then tried, since nobody may be watching.
    """
    deaths = history.consecutive_deaths
    if deaths >= MAX_CONSECUTIVE_DEATHS:
        until_s = history.last_death_s + SET_ASIDE_S
        return Start("now", now_s) if now_s >= until_s else Start("set_aside", until_s)
    if deaths <= 1:
        return Start("now", now_s)
    at_s = history.last_death_s + min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (deaths - 2))
    return Start("now", now_s) if now_s >= at_s else Start("later", at_s)


def is_hung(*, busy_since_s: float | None, run_limit_s: float, now_s: float) -> bool:
    """Whether a worker has run past its manifest's limit. A caller's own short deadline never says so."""
    return busy_since_s is not None and now_s - busy_since_s > run_limit_s


def loads_too_long(state: str, started_s: float, now_s: float) -> bool:
    """Whether a worker that is still starting has had all the time it gets."""
    return state == "starting" and now_s - started_s > LOAD_LIMIT_S
