"""Where calls for each spelling of a model go, remembered for as long as the catalogue says the same.

Runs in the gateway's event loop, for every call. When a spelling comes to mean another version, its calls stay with the
one that is warm until the new one is, so that a swap is no gap.
"""

import time
from collections.abc import Callable

from appliance.catalogue.catalogue import Catalogue
from appliance.core.errors import ConflictError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.traffic import TO_THE_DEFAULT, Traffic
from appliance.gateway.shadow import Shadow, ShadowReport
from appliance.observability.statistics import VersionCounters
from appliance.routing.admission import Admission
from appliance.routing.traffic import Share
from appliance.security.scopes import Principal
from appliance.workers.pool import Pool
from appliance.workers.supervisor import Supervisor
from federation.messages import model_key
from federation.peer import AWAITED_S

_MAX_ROUTES = 10_000

Key = tuple[str, str, bool]  # the model, the version or alias asked for, and whether a bare integer is an ordinal


class Route:
    """Where calls for one spelling of a model go; valid for one generation of the catalogue."""

    __slots__ = (
        "admission",
        "allowed",
        "awaits_until_s",
        "canary",
        "canary_share",
        "counters",
        "holders",
        "key",
        "model",
        "name",
        "pool",
        "predecessor",
        "shadow",
        "version",
    )

    def __init__(self, model: ModelVersion, pool: Pool, counters: VersionCounters) -> None:
        self.model = model
        self.name = str(model.name)
        self.version = str(model.version)
        self.pool = pool
        self.admission = Admission(model.signature)
        self.counters = counters
        self.holders: tuple[str, ...] = ()  # other nodes that hold the version
        self.awaits_until_s = 0.0  # other nodes did a moment ago, and may be back by then
        self.key = model_key(self.name, self.version, model.digest)
        self.allowed: Principal | None = None  # the last caller that was found to be allowed
        self.predecessor: Route | None = None  # what the spelling meant before, while that is warm and this is not
        self.canary: Route | None = None
        self.canary_share = Share(0.0)
        self.shadow: Shadow | None = None

    def now(self) -> "Route":
        """Where the next call goes: the version before this one while this one's is not warm, or the canary in its
        turn."""
        if self.canary is not None and self.canary_share.take():
            return self.canary
        before = self.predecessor
        if before is None:
            return self
        if self.pool.replicas_that_are("ready") or before.pool.closed or not before.pool.replicas_that_are("ready"):
            self.predecessor = None
            return self
        return before


class Routes:
    """find() the route of a call. `counters_of` gives a version's statistics."""

    def __init__(
        self, catalogue: Catalogue, supervisor: Supervisor, counters_of: Callable[[ModelVersion], VersionCounters]
    ) -> None:
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._counters_of = counters_of
        self._routes: dict[Key, Route] = {}
        self._stale: dict[Key, Route] = {}  # of earlier generations, for what the spelling meant before
        self._shadows: dict[ModelName, tuple[Traffic, Shadow]] = {}
        self._generation = -1

    def find(self, model: str, version: str, by_ordinal: bool, *, goes_on: bool = False) -> Route:
        """Where a call that so spells its model goes now. A later call of a sequence, which `goes_on` where its first
        call went, takes nothing of a canary's share. Raises NotFoundError, and ConflictError where nodes of the mesh
        hold the version with different content."""
        if self._generation != self._catalogue.generation:
            self._generation = self._catalogue.generation
            self._stale |= self._routes
            self._routes.clear()
            if len(self._stale) > _MAX_ROUTES:
                self._stale.clear()
        key = (model, version, by_ordinal)
        route = self._routes.get(key)
        if route is None:
            route = self._made(key)
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[key] = route
        if (route.predecessor is None and route.canary is None) or (goes_on and route.model.manifest.state):
            return route
        return route.now()

    def drop_closed(self) -> None:
        """Forgets what leads to pools that are closed: some were made just before that, and seem good still."""
        for routes in (self._routes, self._stale):
            for key in [key for key, route in routes.items() if route.pool.closed]:
                del routes[key]
        for name in [name for name, (_, shadow) in self._shadows.items() if shadow.pool.closed]:
            del self._shadows[name]

    def _made(self, key: Key) -> Route:
        model, version, by_ordinal = key
        found = self._catalogue.resolve(model, version, by_ordinal=by_ordinal)
        route = self._route_to(found)
        traffic = TO_THE_DEFAULT if version else self._catalogue.traffic(found.name)
        if traffic.canary and traffic.canary_share:
            route.canary = self._route_to(self._catalogue.resolve(model, traffic.canary))
            route.canary_share = Share(traffic.canary_share)
        if traffic.shadow:
            route.shadow = self._shadow(found.name, traffic)
        before = self._stale.pop(key, None)
        if before is not None and not route.holders and before.model.key == found.key:
            lost_now = time.monotonic() + AWAITED_S if before.holders else 0.0
            route.awaits_until_s = max(before.awaits_until_s, lost_now)
        if before is not None and before.predecessor is not None:
            before = before.predecessor
        if (before is not None and before.model.key == found.key) or not found.folder:
            return route  # what lies on other nodes is made ready there
        if before is not None and before.pool.replicas_that_are("ready") and not before.pool.closed:
            route.predecessor = before
            route.pool.prepare()
        return route

    def _route_to(self, model: ModelVersion) -> Route:
        if conflict := self._catalogue.conflict(model):
            raise ConflictError(conflict)
        route = Route(model, self._supervisor.pool(model), self._counters_of(model))
        route.holders = self._catalogue.holders(model)
        return route

    def _shadow(self, name: ModelName, traffic: Traffic) -> Shadow | None:
        """The model's shadow, where it lies here; with its report, the same for as long as the wish is."""
        wish, shadow = self._shadows.get(name, (None, None))
        if shadow is None or wish != traffic or shadow.pool.closed:
            version = self._catalogue.resolve(str(name), traffic.shadow)
            if not version.folder:
                return None  # its copies are the node's own that holds it
            shadow = Shadow(str(version.version), self._supervisor.pool(version), traffic.shadow_share)
            self._shadows[name] = (traffic, shadow)
        return shadow

    def shadow_report(self, name: ModelName) -> ShadowReport | None:
        """What became of the copies of a model's calls under the present wish."""
        wish, shadow = self._shadows.get(name, (None, None))
        return shadow.report if shadow is not None and wish == self._catalogue.traffic(name) else None
