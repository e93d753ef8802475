"""V2's operations besides inference, as the ZeroMQ front answers them: the JSON of V2's REST front.

Runs in the gateway, over the data plane. Each method takes a query and its caller, and returns what is to be written as
JSON, or raises an IngleError.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from appliance.core.client_frames import Query
from appliance.core.errors import BadInputError, NotFoundError
from appliance.core.models import ModelVersion
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.replies import encode_array
from appliance.gateway.v2_model import v2_config, v2_metadata, v2_server_metadata, v2_statistics
from appliance.security.scopes import ANONYMOUS, Principal

_OPEN = frozenset(("live", "ready"))  # no more than whether the node is up: these need no key


class Operations:
    """Answers queries from what the data plane and its catalogue know."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._catalogue = dataplane.catalogue
        self._methods: dict[str, Callable[[Query, Principal], Awaitable[Any]]] = {
            "live": self.live,
            "ready": self.ready,
            "server_metadata": self.server_metadata,
            "model_ready": self.model_ready,
            "model_metadata": self.model_metadata,
            "model_config": self.model_config,
            "statistics": self.statistics,
            "index": self.index,
            "load": self.load,
            "unload": self.unload,
        }

    async def answer(self, query: Query) -> Any:
        """What answers a query. Raises IngleError; BadInputError for an operation that there is not."""
        method = self._methods.get(query.operation)
        if method is None:
            raise BadInputError(
                f"there is no operation '{query.operation[:40]}': expected one of {', '.join(self._methods)}"
            )
        open_to_all = query.operation in _OPEN
        return await method(query, ANONYMOUS if open_to_all else self._dataplane.principal(query.key or None))

    async def live(self, _query: Query, _caller: Principal) -> Any:
        return {"live": True}

    async def ready(self, _query: Query, _caller: Principal) -> Any:
        return {"ready": self._dataplane.node_ready()}

    async def server_metadata(self, _query: Query, _caller: Principal) -> Any:
        return v2_server_metadata(shared_memory=self._dataplane.shared_memory.allowed)

    async def model_ready(self, query: Query, caller: Principal) -> Any:
        try:
            version = self._version(query, caller)
        except NotFoundError:
            return {"ready": False}
        return {"ready": self._dataplane.model_ready(str(version.name), str(version.version))}

    async def model_metadata(self, query: Query, caller: Principal) -> Any:
        version = self._version(query, caller)
        return v2_metadata(self._catalogue.entry(version.name), version, query.model)

    async def model_config(self, query: Query, caller: Principal) -> Any:
        version = self._version(query, caller)
        return v2_config(version, self._dataplane.max_batch(version))

    async def statistics(self, query: Query, caller: Principal) -> Any:
        if query.model:
            self._version(query, caller)
            return {"model_stats": list(map(v2_statistics, self._dataplane.statistics(query.model, query.version)))}
        rows = map(v2_statistics, self._dataplane.all_statistics(partial(caller.allows, "call")))
        return msgspec.Raw(b'{"model_stats":%b}' % await encode_array(rows))

    async def index(self, query: Query, caller: Principal) -> Any:
        rows = await self._dataplane.index(query.ready_only, partial(caller.allows, "call"))
        return msgspec.Raw(await encode_array(rows))

    async def load(self, query: Query, caller: Principal) -> Any:
        await self._dataplane.deployer.load(query.model, {}, None, caller)
        return {}

    async def unload(self, query: Query, caller: Principal) -> Any:
        await self._dataplane.deployer.unload(query.model, caller)
        return {}

    def _version(self, query: Query, caller: Principal) -> ModelVersion:
        """The version that a query means, if the caller may see it."""
        version = self._catalogue.resolve(query.model, query.version, by_ordinal=True)
        caller.require("call", version.name)
        return version
