"""Has models loaded where the router wants them besides, in the background: here or on a peer, and fetched before.

Runs in the gateway's event loop. Where and when is routing's to say (routing/copying.py); no call waits for it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from appliance.catalogue.catalogue import Catalogue
from appliance.core.errors import IngleError, NotFoundError
from appliance.core.models import ModelVersion
from appliance.routing.copying import GIVE_UP_S, Place
from federation.messages import Order

_log = logging.getLogger("ingle.copies")


class BackgroundLoads:
    """begin() is the router's `load`, `ended` its load_ended(), `failed` its load_failed()."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        node_id: str,
        fetch: Callable[[ModelVersion], Awaitable[ModelVersion]],
        warm: Callable[[ModelVersion], Awaitable[None]],
        order: Callable[[str, Order, float], Awaitable[None]],
        ended: Callable[[str, str], None],
        failed: Callable[[str, str], None],
    ) -> None:
        """`fetch` gets a copy of a version here, `warm` has one loaded here, `order` has a peer carry out an order."""
        self._catalogue = catalogue
        self._node_id = node_id
        self._fetch = fetch
        self._warm = warm
        self._order = order
        self._ended = ended
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, key: str, place: Place) -> None:
        """Has the version with this key (model_key()) loaded there."""
        task = asyncio.get_running_loop().create_task(self._load(key, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _load(self, key: str, place: Place) -> None:
        try:
            model = self._model(key)
            if place.node_id == self._node_id:
                await self._warm(model if model.folder else await self._fetch(model))
            else:
                act, why = ("warm", "") if place.holds else ("fetch", "warm")
                order = Order(0, act, str(model.name), str(model.version), model.digest, why)
                await self._order(place.node_id, order, GIVE_UP_S)
                if not place.holds:
                    return  # it has begun; that it is done shows in the peer's state
        except IngleError as error:
            _log.info("%s is not loaded on node %s, where it would be quicker: %s", key, place.node_id[:12], error)
            self._failed(key, place.node_id)
        else:
            self._ended(key, place.node_id)

    def _model(self, key: str) -> ModelVersion:
        """Raises NotFoundError where the catalogue has it no more."""
        reference, _, digest = key.rpartition("@")
        name, _, version = reference.rpartition(":")
        model = self._catalogue.resolve(name, version)
        if not model.digest.startswith(digest):
            raise NotFoundError("it has other content by now")
        return model
