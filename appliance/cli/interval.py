"""What a node did between two looks at it, a line for each model: what `ingle top` shows. Pure.

The node's counters only grow while it runs; their differences are what happened in between. Where the node was started
anew in between, its counters began anew, and so does the interval.
"""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from appliance.cli.output import device_words
from appliance.client_answers import Activity, ModelActivity, NodeMemory, WorkerCounts
from appliance.observability.statistics import centile_s

SortKey = Literal["rate", "memory", "p99", "worth"]


class Look(msgspec.Struct, frozen=True):
    """An answer of the node, and when it came, on a clock that only grows."""

    activity: Activity
    at_s: float


class Line(msgspec.Struct, frozen=True):
    """One version. Rates and latencies are of the interval; 0 where there were no calls. `cpu` is in cores."""

    model: str
    version: str
    state: str
    reason: str
    replicas: int
    calls_per_s: float
    failed_per_s: float
    in_flight: int
    waiting: int
    p50_s: float
    p99_s: float
    memory_bytes: int
    cpu: float
    cold_start_s: float
    worth: float
    device: str


class Shown(msgspec.Struct, frozen=True):
    """A node and its models over `interval_s`. `hidden`: lines that the pattern left out."""

    node: str
    release: str
    uptime_s: float
    cores: int
    interval_s: float
    calls_per_s: float
    failed_per_s: float
    memory: NodeMemory
    replicas: int
    workers: WorkerCounts
    models: list[Line]
    hidden: int


def between(looks: Sequence[Look], *, sort: SortKey = "rate", pattern: str = "*") -> Shown:
    """What happened between the last two looks. The node reads processor times once a second: theirs are taken over all
    the looks. One look alone has an interval of 0, and no rates.

    `pattern` is a shell's, for `owner/name`; one without `*`, `?` or `[` finds names that hold it.
    """
    now = looks[-1]
    earlier = [look for look in looks[:-1] if look.activity.uptime_s < now.activity.uptime_s]
    before = earlier[-1] if earlier else now
    interval_s = now.at_s - before.at_s
    last, first = _by_version(before), _by_version(earlier[0] if earlier else now)
    span_s = now.at_s - earlier[0].at_s if earlier else 0.0
    lines = []
    for model in now.activity.models:
        key = (model.model, model.version)
        lines.append(_line(model, last.get(key), interval_s, first.get(key, model), span_s))
    shown = [line for line in lines if _matches(line.model, pattern)]
    return Shown(
        node=now.activity.node,
        release=now.activity.release,
        uptime_s=now.activity.uptime_s,
        cores=now.activity.cores,
        interval_s=interval_s,
        calls_per_s=sum(line.calls_per_s for line in lines),
        failed_per_s=sum(line.failed_per_s for line in lines),
        memory=now.activity.memory,
        replicas=sum(line.replicas for line in lines),
        workers=now.activity.workers,
        models=sorted(shown, key=_order(sort)),
        hidden=len(lines) - len(shown),
    )


def _by_version(look: Look) -> dict[tuple[str, str], ModelActivity]:
    return {(model.model, model.version): model for model in look.activity.models}


def _line(
    now: ModelActivity, before: ModelActivity | None, interval_s: float, first: ModelActivity, span_s: float
) -> Line:
    calls_per_s, failed_per_s, durations = now.arrivals_per_s, 0.0, list[int]()
    # A version that slept at the last look is not in it; one that was deleted and made again counts anew. Of both only
    # the node's own mean over a second is known.
    if before is not None and interval_s and now.answered >= before.answered and now.failed >= before.failed:
        calls_per_s = (now.answered - before.answered) / interval_s
        failed_per_s = (now.failed - before.failed) / interval_s
        durations = [later - earlier for later, earlier in zip(now.durations, before.durations, strict=False)]
    return Line(
        model=now.model,
        version=now.version,
        state=now.state,
        reason=now.reason,
        replicas=now.replicas,
        calls_per_s=calls_per_s,
        failed_per_s=failed_per_s,
        in_flight=now.in_flight,
        waiting=now.waiting,
        p50_s=centile_s(durations, 50),
        p99_s=centile_s(durations, 99),
        memory_bytes=now.memory_bytes,
        cpu=max(0.0, now.cpu_s - first.cpu_s) / span_s if span_s else 0.0,
        cold_start_s=now.cold_start_s,
        worth=now.worth,
        device=device_words(now.providers),
    )


def _matches(name: str, pattern: str) -> bool:
    if any(character in pattern for character in "*?["):
        return fnmatch.fnmatchcase(name, pattern)
    return pattern in name


def _order(sort: SortKey) -> Callable[[Line], tuple[float, str, str]]:
    """The largest first, those that are alike by name."""
    word = {"rate": "calls_per_s", "memory": "memory_bytes", "p99": "p99_s", "worth": "worth"}[sort]
    return lambda line: (-getattr(line, word), line.model, line.version)
