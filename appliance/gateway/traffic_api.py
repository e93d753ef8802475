"""How a model's calls are spread over its versions, over HTTP: canary, shadow, and what takes them back.

Runs in the gateway. What is kept is the catalogue's, what decides routing's, what is counted the data plane's.
"""

import asyncio

import msgspec
from aiohttp import web

from appliance.core.errors import BadInputError, ConflictError
from appliance.core.names import ModelName
from appliance.core.traffic import TO_THE_DEFAULT, Traffic
from appliance.gateway.answers import TallyDescription, TrafficDescription, TrafficRequest
from appliance.gateway.asked import OWNER, PLAIN_NAME, asked_json, asked_name, who
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Body, Operation, Reply
from appliance.gateway.replies import json_reply

_TRAFFIC = "/v1/models/{owner}/{name}/traffic"
_SPREAD = {200: Reply("How calls are spread, and how the versions fare.", TrafficDescription)}

OPERATIONS = (
    Operation(
        "read_traffic",
        "GET",
        _TRAFFIC,
        "models",
        "Say how the calls that name no version are spread, and how the versions fare",
        _SPREAD,
        (404,),
        (OWNER, PLAIN_NAME),
    ),
    Operation(
        "set_traffic",
        "PUT",
        _TRAFFIC,
        "models",
        "Give a share of the calls to a canary, copies to a shadow, and say when a new version is taken back",
        _SPREAD,
        (404, 409, 413, 415, 503),
        (OWNER, PLAIN_NAME),
        Body({"application/json": TrafficRequest}),
    ),
    Operation(
        "delete_traffic",
        "DELETE",
        _TRAFFIC,
        "models",
        "Give all calls that name no version to the default one",
        _SPREAD,
        (404,),
        (OWNER, PLAIN_NAME),
    ),
)


class TrafficApi:
    """The handlers, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def read_traffic(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        principal.require("call", name)
        return json_reply(self._described(name))

    async def set_traffic(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        principal.require("deploy", name)
        asked = await asked_json(request, TrafficRequest)
        await self._dataplane.deployer.set_traffic(name, self._wish(name, asked))
        return json_reply(self._described(name))

    async def delete_traffic(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        name = asked_name(request)
        principal.require("deploy", name)
        await asyncio.to_thread(self._dataplane.catalogue.set_traffic, name, TO_THE_DEFAULT)
        return json_reply(self._described(name))

    def _wish(self, name: ModelName, asked: TrafficRequest) -> Traffic:
        """With each version as the whole one that its word means now.

        Raises NotFoundError, BadInputError, ConflictError.
        """
        entry = self._dataplane.catalogue.entry(name)
        versions = {
            word: str(entry.find(asked_for).version) if asked_for else ""
            for word, asked_for in (("canary", asked.canary), ("shadow", asked.shadow), ("return_to", asked.return_to))
        }
        default = str(entry.default.version)
        for word, version in versions.items():
            if version == default and word != "return_to":
                raise ConflictError(f"{version} is the default version of {name}: name another as its {word}")
        if asked.canary_share and not asked.canary:
            raise BadInputError("a share is given, but no canary to get it")
        if asked.return_to and not (asked.max_error_share or asked.max_latency_ratio):
            raise BadInputError("return_to needs max_error_share or max_latency_ratio, which say when to return")
        return Traffic(
            canary=versions["canary"],
            canary_share=asked.canary_share,
            shadow=versions["shadow"],
            shadow_share=asked.shadow_share,
            return_to=versions["return_to"],
            max_error_share=asked.max_error_share,
            max_latency_ratio=asked.max_latency_ratio,
            least_calls=int(asked.least_calls),
        )

    def _described(self, name: ModelName) -> TrafficDescription:
        catalogue = self._dataplane.catalogue
        default = str(catalogue.entry(name).default.version)
        wish = catalogue.traffic(name)
        described = msgspec.structs.asdict(wish)
        return TrafficDescription(
            model=str(name),
            default=default,
            **described,
            versions={
                version: TallyDescription(tally.answered, tally.failed, tally.mean_s)
                for version in (default, wish.canary, wish.return_to)
                if version and (tally := self._dataplane.watch.tally(name, version)) is not None
            },
            compared=self._dataplane.shadow_report(name),
        )
