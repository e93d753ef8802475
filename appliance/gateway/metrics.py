"""`/metrics` for Prometheus, read from the counters that are kept anyway: nothing is done for it while calls run.

Runs in the gateway, at the scrape. A key sees the models that it may call. However many models there are, labels are
bounded: versions beyond the bound are in the sums.
"""

import asyncio
import heapq
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from appliance.core.errors import NotFoundError
from appliance.core.names import ModelName
from appliance.core.release import VERSION
from appliance.gateway.asked import who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Operation, Reply
from appliance.gateway.pacing import paced
from appliance.gateway.states import ModelState
from appliance.observability.statistics import VersionCounters, VersionStatistics, duration_bounds_s
from appliance.routing.scheduler import Counts
from appliance.security.scopes import Principal

MAX_LABELLED = 250
_TEXT = {"type": "string"}
# Of the powers of two in which durations are counted, those shown: 65 microseconds to 69 seconds.
_SHOWN_BITS = range(16, 37)
_LABELS = ("model", "version")

OPERATIONS = (
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "node",
        "Show counters and gauges for Prometheus, of the models that the key may call",
        {200: Reply("The metrics.", {"text/plain": _TEXT, "application/openmetrics-text": _TEXT})},
    ),
)


class Metrics:
    """The handler, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def metrics(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(NodeCollector(self._dataplane, await scrape(self._dataplane, principal)))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # What is written is a copy by now, and writing it takes longer than a call does.
        body = await asyncio.to_thread(encode, registry)
        return web.Response(body=body, headers={"Content-Type": content_type})


class Scrape(NamedTuple):
    """A copy of what is counted. `rows` has each labelled version's state and counters, `total` the sum over all that
    ever were, with labels or without."""

    rows: list[tuple[ModelState, VersionStatistics]]
    total: VersionStatistics
    called: int
    counts: Counts


async def scrape(dataplane: DataPlane, principal: Principal) -> Scrape:
    """The models that `principal` may call: those with workers or waiting calls, and those called last, up to
    MAX_LABELLED versions, one by one; all of them as a sum."""
    may_see = partial(principal.allows, "call")
    active = {(model.name, model.ordinal) for model in dataplane.active() if may_see(model.name)}
    total = VersionCounters()
    if principal.allows("call", None):
        total.add(dataplane.gone)
    called: list[tuple[bool, int, ModelName, int, VersionCounters]] = []
    async for name, ordinal, counters in paced(dataplane.counters(may_see)):
        total.add(counters)
        called.append(((name, ordinal) in active, counters.last_call_ms, name, ordinal, counters))
    count = len(called)
    loaded = active - {(name, ordinal) for _, _, name, ordinal, _ in called}  # and never called
    called += [(True, 0, *key, VersionCounters()) for key in loaded]
    rows = []
    for _, _, name, ordinal, counters in sorted(
        heapq.nlargest(MAX_LABELLED, called, key=itemgetter(0, 1)), key=itemgetter(2, 3)
    ):
        with suppress(NotFoundError):  # deleted in the meantime
            state = dataplane.state(dataplane.catalogue.resolve(str(name), str(ordinal), by_ordinal=True))
            rows.append((state, counters.read(name.v2, str(ordinal))))
    return Scrape(rows, total.read("", ""), count, dataplane.scheduler.counts())


class NodeCollector(Collector):
    """A scrape as metrics."""

    def __init__(self, dataplane: DataPlane, scraped: Scrape) -> None:
        self._dataplane = dataplane
        self._scraped = scraped

    def collect(self) -> Iterator[Metric]:
        rows, total, called, counts = self._scraped
        ready = self._dataplane.node_ready()
        yield GaugeMetricFamily("ingle_node_ready", "Whether the node takes calls", value=float(ready))
        about = GaugeMetricFamily("ingle_node", "This node, by name and release", labels=("node", "release"))
        about.add_metric((self._dataplane.node_name, VERSION), 1)
        yield about
        models = self._dataplane.catalogue.model_count
        yield GaugeMetricFamily("ingle_node_models", "Models that exist", value=float(models))
        yield GaugeMetricFamily("ingle_node_called_versions", "Versions called since the start", value=float(called))
        yield GaugeMetricFamily("ingle_node_labelled_versions", "Versions with labels below", value=float(len(rows)))
        yield from call_metrics([((), total)], "ingle_node_", "of all models, with labels below or without", ())
        labelled = [((str(state.model.name), str(state.model.version)), row) for state, row in rows]
        yield from call_metrics(labelled, "ingle_", "of one version", _LABELS)
        yield from worker_metrics([state for state, _ in rows])
        yield from scheduler_metrics(counts)


def call_metrics(
    rows: Iterable[tuple[tuple[str, ...], VersionStatistics]], prefix: str, of: str, names: tuple[str, ...]
) -> Iterable[Metric]:
    """What became of the calls, how long they took, and how they were batched, each row with its labels."""
    calls = CounterMetricFamily(
        f"{prefix}calls", f"Calls by outcome, ok or an error's code, {of}", labels=(*names, "outcome")
    )
    took = HistogramMetricFamily(
        f"{prefix}call_duration_seconds", f"Answered calls, arrival to answer, {of}", labels=names
    )
    phases = CounterMetricFamily(
        f"{prefix}call_phase_seconds", f"Time that calls spent, {of}", labels=(*names, "phase")
    )
    inferences = CounterMetricFamily(f"{prefix}inference_rows", f"Rows that models ran on, {of}", labels=names)
    runs = CounterMetricFamily(f"{prefix}model_runs", f"Runs of models, each of one batch, {of}", labels=names)
    for labels, row in rows:
        stats = row.inference_stats
        for outcome, count in {"ok": stats.success.count, **row.fails}.items():
            calls.add_metric((*labels, outcome), count)
        took.add_metric(labels, cumulative_buckets(row.durations), stats.success.ns / 1e9)
        for phase in ("queue", "compute_input", "compute_infer", "compute_output"):
            phases.add_metric((*labels, phase), getattr(stats, phase).ns / 1e9)
        inferences.add_metric(labels, row.inference_count)
        runs.add_metric(labels, row.execution_count)
    return calls, took, phases, inferences, runs


def cumulative_buckets(durations: list[int]) -> list[tuple[str, float]]:
    """Counts by power of two as Prometheus' buckets: how many calls took no longer than each bound."""
    bounds = list(duration_bounds_s())
    shown: list[tuple[str, float]] = [(repr(bounds[bits]), sum(durations[: bits + 1])) for bits in _SHOWN_BITS]
    return [*shown, ("+Inf", sum(durations))]


def worker_metrics(states: Iterable[ModelState]) -> Iterable[Metric]:
    """Which models have workers, what these do and what waits for them."""
    state_of = GaugeMetricFamily("ingle_model_state", "1 for the state a version is in", labels=(*_LABELS, "state"))
    workers = GaugeMetricFamily("ingle_model_workers", "Worker processes of a version", labels=_LABELS)
    flying = GaugeMetricFamily("ingle_model_in_flight", "Calls handed to workers and not answered", labels=_LABELS)
    waiting = GaugeMetricFamily("ingle_model_waiting", "Calls waiting for a worker", labels=_LABELS)
    memory = GaugeMetricFamily("ingle_model_memory_bytes", "Unique set size of a version's workers", labels=_LABELS)
    processor = CounterMetricFamily("ingle_model_cpu_seconds", "Processor time of a version's workers", labels=_LABELS)
    cold = GaugeMetricFamily(
        "ingle_model_cold_start_seconds", "From the wish for a worker to its being ready", labels=_LABELS
    )
    for state in states:
        labels = (str(state.model.name), str(state.model.version))
        state_of.add_metric((*labels, state.state), 1)
        workers.add_metric(labels, len(state.workers))
        flying.add_metric(labels, sum(worker.in_flight for worker in state.workers))
        waiting.add_metric(labels, state.waiting)
        memory.add_metric(labels, sum(worker.memory_bytes for worker in state.workers))
        processor.add_metric(labels, state.profile.cpu_s)
        cold.add_metric(labels, state.profile.cold_start_s)
    return state_of, workers, flying, waiting, memory, processor, cold


def scheduler_metrics(counts: Counts) -> Iterable[Metric]:
    """The memory that models share, and the workers that came and went."""
    yield GaugeMetricFamily("ingle_node_budget_bytes", "Memory that warm models may use", value=counts.budget_bytes)
    yield GaugeMetricFamily("ingle_node_used_bytes", "Memory that warm models use", value=counts.used_bytes)
    yield GaugeMetricFamily(
        "ingle_node_waiting_for_memory", "Versions that wait for memory to start", value=counts.waiting_for_memory
    )
    yield CounterMetricFamily("ingle_node_workers_started", "Workers started", value=counts.started)
    ended = CounterMetricFamily("ingle_node_workers_ended", "Workers ended, by why", labels=("why",))
    ended.add_metric(("memory",), counts.evicted)
    ended.add_metric(("idle",), counts.ended_idle)
    yield ended
