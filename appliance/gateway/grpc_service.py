"""The V2 protocol's RPCs besides inference: health, metadata, configuration, statistics, repository.

Runs in the gateway. Each method takes a parsed request and the caller, and returns the answer's message or raises an
IngleError. What does not exist on this node is answered with a sentence as well.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict

from appliance.core.errors import BadInputError, NotFoundError, UnsupportedError
from appliance.core.models import ModelVersion
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.grpc_control import GrpcControl
from appliance.gateway.grpc_stubs import pb
from appliance.gateway.pacing import paced
from appliance.gateway.v2_model import v2_config, v2_metadata, v2_server_metadata
from appliance.observability.statistics import VersionStatistics
from appliance.security.scopes import Principal

Method = Callable[[Any, Principal], Awaitable[Any]]

# RPCs that tell no more than whether the node is up: the only ones that need no key.
OPEN = frozenset(("ServerLive", "ServerReady"))


class V2Service:
    """Answers from what the data plane and its catalogue know."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._catalogue = dataplane.catalogue
        control = GrpcControl(dataplane)
        self._methods: dict[str, Method] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_model_load,
            "RepositoryModelUnload": self.repository_model_unload,
            "LogSettings": control.log_settings,
            "TraceSetting": control.trace_setting,
        }

    def method(self, name: str) -> Method:
        """What answers the RPC of this name: for one that this node does not offer, a refusal that says so."""
        return self._methods.get(name) or _not_offered(name)

    async def server_live(self, _request: Any, _caller: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: Any, _caller: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._dataplane.node_ready())

    async def server_metadata(self, _request: Any, _caller: Principal) -> Any:
        metadata = v2_server_metadata(shared_memory=self._dataplane.shared_memory.allowed)
        return ParseDict(metadata, pb.ServerMetadataResponse())

    async def model_ready(self, request: Any, caller: Principal) -> Any:
        try:
            version = self._version(request, caller)
        except NotFoundError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._dataplane.model_ready(str(version.name), str(version.version)))

    async def model_metadata(self, request: Any, caller: Principal) -> Any:
        version = self._version(request, caller)
        entry = self._catalogue.entry(version.name)
        return ParseDict(v2_metadata(entry, version, request.name), pb.ModelMetadataResponse())

    async def model_config(self, request: Any, caller: Principal) -> Any:
        version = self._version(request, caller)
        return ParseDict({"config": v2_config(version, self._dataplane.max_batch(version))}, pb.ModelConfigResponse())

    def _version(self, request: Any, caller: Principal) -> ModelVersion:
        """The version that a request means, if the caller may see it."""
        version = self._catalogue.resolve(request.name, request.version, by_ordinal=True)
        caller.require("call", version.name)
        return version

    async def model_statistics(self, request: Any, caller: Principal) -> Any:
        if request.name:
            self._version(request, caller)
            rows: Iterable[VersionStatistics] = self._dataplane.statistics(request.name, request.version)
        else:
            rows = self._dataplane.all_statistics(partial(caller.allows, "call"))
        response = pb.ModelStatisticsResponse()
        async for row in paced(rows):
            response.model_stats.append(_statistics(row))
        return response

    async def repository_index(self, request: Any, caller: Principal) -> Any:
        response = pb.RepositoryIndexResponse()
        async for row in paced(await self._dataplane.index(request.ready, partial(caller.allows, "call"))):
            response.models.add(name=row.name, version=row.version, state=row.state, reason=row.reason)
        return response

    async def repository_model_load(self, request: Any, caller: Principal) -> Any:
        files: dict[str, bytes] = {}
        config: str | None = None
        for key, parameter in request.parameters.items():
            if key == "config":
                config = parameter.string_param
            elif key.startswith("file:"):
                files[key.removeprefix("file:")] = parameter.bytes_param
            else:
                raise BadInputError(f"a load has no parameter '{key[:100]}': expected config, or file:VERSION/FILE")
        await self._dataplane.deployer.load(request.model_name, files, config, caller)
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(self, request: Any, caller: Principal) -> Any:
        # `unload_dependents` is taken, and nothing depends on a model yet.
        await self._dataplane.deployer.unload(request.model_name, caller)
        return pb.RepositoryModelUnloadResponse()


def _not_offered(name: str) -> Method:
    async def refuse(_request: Any, _caller: Principal) -> Any:
        raise UnsupportedError(f"this node does not offer {name}: its extensions are named by ServerMetadata")

    return refuse


def _statistics(row: VersionStatistics) -> Any:
    values = msgspec.to_builtins(row)
    values["last_inference"] = values.pop("last_inference_ms")
    # Kept for the metrics; V2 has no place for them.
    del values["fails"], values["durations"]
    return pb.ModelStatistics(**values)
