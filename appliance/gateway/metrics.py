"""`/metrics` for Prometheus, read from the counters that are kept anyway: nothing is done for it while calls run.

Runs in the gateway, at the scrape. A key sees the models that it may call.
"""

from collections.abc import Iterable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from appliance.core.names import parse_name
from appliance.core.release import VERSION
from appliance.gateway.asked import who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Operation, Reply
from appliance.gateway.states import ModelState
from appliance.observability.statistics import VersionStatistics, duration_bounds_s
from appliance.security.scopes import Principal

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
        registry.register(NodeCollector(self._dataplane, principal))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})


class NodeCollector(Collector):
    """What the data plane knows, as metrics, of the models that `principal` may call."""

    def __init__(self, dataplane: DataPlane, principal: Principal) -> None:
        self._dataplane = dataplane
        self._principal = principal

    def collect(self) -> Iterator[Metric]:
        may_see = self._principal.allows
        ready = self._dataplane.node_ready()
        yield GaugeMetricFamily("ingle_node_ready", "Whether the node takes calls", value=float(ready))
        about = GaugeMetricFamily("ingle_node", "This node, by name and release", labels=("node", "release"))
        about.add_metric((self._dataplane.node_name, VERSION), 1)
        yield about
        rows = [row for row in self._dataplane.statistics() if may_see("call", parse_name(row.name))]
        versions = {
            (version.name.v2, str(version.ordinal)): (str(version.name), str(version.version))
            for entry in self._dataplane.catalogue.search()
            for version in entry.versions
        }
        yield from call_metrics((versions.get((row.name, row.version), (row.name, row.version)), row) for row in rows)
        yield from worker_metrics([state for state in self._dataplane.states() if may_see("call", state.model.name)])


def call_metrics(rows: Iterable[tuple[tuple[str, str], VersionStatistics]]) -> Iterable[Metric]:
    """What became of the calls, how long they took, and how they were batched, each row with its two labels."""
    calls = CounterMetricFamily("ingle_calls", "Calls by outcome: ok, or an error's code", labels=(*_LABELS, "outcome"))
    took = HistogramMetricFamily("ingle_call_duration_seconds", "Answered calls, arrival to answer", labels=_LABELS)
    phases = CounterMetricFamily("ingle_call_phase_seconds", "Time that calls spent", labels=(*_LABELS, "phase"))
    inferences = CounterMetricFamily("ingle_inference_rows", "Rows that models ran on", labels=_LABELS)
    runs = CounterMetricFamily("ingle_model_runs", "Runs of models, each of one batch", labels=_LABELS)
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
    for state in states:
        labels = (str(state.model.name), str(state.model.version))
        state_of.add_metric((*labels, state.state), 1)
        workers.add_metric(labels, len(state.workers))
        flying.add_metric(labels, sum(worker.in_flight for worker in state.workers))
        waiting.add_metric(labels, state.waiting)
    return state_of, workers, flying, waiting
