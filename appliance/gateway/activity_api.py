"""What the node does right now, and what its owner wishes of a model's replicas, over HTTP.

Runs in the gateway, over the data plane; what decides is routing's. A key sees the models that it may call.
"""

import asyncio
import os
import time

import psutil
from aiohttp import web

from appliance.core.release import VERSION
from appliance.core.scale import Scale
from appliance.gateway.answers import Activity, Memory, ModelActivity, ScaleDescription, SchedulerCounts
from appliance.gateway.asked import OWNER, PLAIN_NAME, asked_json, asked_name, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.descriptions import runs_on, scale_description
from appliance.gateway.operations import Body, Operation, Reply
from appliance.gateway.replies import json_reply
from appliance.gateway.states import ModelState
from appliance.observability.statistics import VersionStatistics, centile_s

_SCALE = "/v1/models/{owner}/{name}/scale"
_SCALED = {200: Reply("What is wished of the model's replicas.", ScaleDescription)}

OPERATIONS = (
    Operation(
        "activity",
        "GET",
        "/v1/activity",
        "node",
        "Show what the node does right now: its memory, its workers, and the models that are warm or called",
        {200: Reply("The node, and its models by calls a second, the busiest first.", Activity)},
    ),
    Operation(
        "read_scale",
        "GET",
        _SCALE,
        "models",
        "Say what is wished of a model's replicas",
        _SCALED,
        (404,),
        (OWNER, PLAIN_NAME),
    ),
    Operation(
        "set_scale",
        "PUT",
        _SCALE,
        "models",
        "Say how many replicas a model is to have, and how soon its calls are to be answered",
        _SCALED,
        (404, 413, 415),
        (OWNER, PLAIN_NAME),
        Body({"application/json": ScaleDescription}),
    ),
)


class ActivityApi:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._process = psutil.Process()

    async def activity(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        counts = self._dataplane.scheduler.counts()
        states = [state for state in self._dataplane.states() if principal.allows("call", state.model.name)]
        return json_reply(
            Activity(
                node=self._dataplane.node_name,
                release=VERSION,
                uptime_s=time.time() - self._process.create_time(),
                cores=len(os.sched_getaffinity(0)),
                memory=Memory(counts.budget_bytes, counts.used_bytes, self._process.memory_info().rss),
                workers=SchedulerCounts(
                    counts.started,
                    counts.started_ahead,
                    counts.evicted,
                    counts.ended_idle,
                    counts.waiting_for_memory,
                ),
                models=sorted(
                    (_model_activity(state, self._dataplane.statistics_of(state.model)) for state in states),
                    key=lambda model: (-model.arrivals_per_s, model.model, model.version),
                ),
            )
        )

    async def read_scale(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        principal.require("call", name)
        self._dataplane.catalogue.entry(name)
        return json_reply(scale_description(self._dataplane.catalogue.scale(name)))

    async def set_scale(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        principal.require("deploy", name)
        asked = await asked_json(request, ScaleDescription)
        scale = Scale(int(asked.min_replicas), int(asked.max_replicas), asked.target_latency_s)
        await asyncio.to_thread(self._dataplane.catalogue.set_scale, name, scale)
        return json_reply(scale_description(scale))


def _model_activity(state: ModelState, statistics: VersionStatistics) -> ModelActivity:
    answered = statistics.inference_stats.success
    return ModelActivity(
        model=str(state.model.name),
        version=str(state.model.version),
        state=state.state,
        reason=state.reason,
        replicas=len(state.workers),
        in_flight=sum(worker.in_flight for worker in state.workers),
        waiting=state.waiting,
        arrivals_per_s=state.arrivals_per_s,
        answered=answered.count,
        failed=statistics.inference_stats.fail.count,
        p50_s=centile_s(statistics.durations, 50),
        p99_s=centile_s(statistics.durations, 99),
        durations=statistics.durations,
        run_s=state.profile.run_s.get(1, 0.0),
        memory_bytes=sum(worker.memory_bytes for worker in state.workers),
        cpu_s=state.profile.cpu_s,
        cold_start_s=state.profile.cold_start_s,
        worth=state.worth,
        providers=runs_on(state.workers),
    )
