"""Where calls for each spelling of a model go, remembered for as long as the catalogue says the same.

Runs in the gateway's event loop, for every call. When a spelling comes to mean another version, its calls stay with the
one that is warm until the new one is, so that a swap is no gap.
"""

from collections.abc import Callable

from appliance.catalogue.catalogue import Catalogue
from appliance.core.models import ModelVersion
from appliance.observability.statistics import VersionCounters
from appliance.routing.admission import Admission
from appliance.security.scopes import Principal
from appliance.workers.pool import Pool
from appliance.workers.supervisor import Supervisor

_MAX_ROUTES = 10_000

Key = tuple[str, str, bool]  # the model, the version or alias asked for, and whether a bare integer is an ordinal


class Route:
    """Where calls for one spelling of a model go; valid for one generation of the catalogue."""

    __slots__ = ("admission", "allowed", "counters", "model", "name", "pool", "predecessor", "version")

    def __init__(self, model: ModelVersion, pool: Pool, counters: VersionCounters) -> None:
        self.model = model
        self.name = str(model.name)
        self.version = str(model.version)
        self.pool = pool
        self.admission = Admission(model.signature)
        self.counters = counters
        self.allowed: Principal | None = None  # the last caller that was found to be allowed
        self.predecessor: Route | None = None  # what the spelling meant before, while that is warm and this is not

    def now(self) -> "Route":
        """This route, or the one before it while this one's model is not warm."""
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
        self._generation = -1

    def find(self, model: str, version: str, by_ordinal: bool) -> Route:
        """Where a call that so spells its model goes now. Raises NotFoundError."""
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
        return route if route.predecessor is None else route.now()

    def drop_closed(self) -> None:
        """Forgets routes to pools that are closed: some may have been made just before that, and seem good still."""
        for routes in (self._routes, self._stale):
            for key in [key for key, route in routes.items() if route.pool.closed]:
                del routes[key]

    def _made(self, key: Key) -> Route:
        model, version, by_ordinal = key
        found = self._catalogue.resolve(model, version, by_ordinal=by_ordinal)
        before = self._stale.pop(key, None)
        if before is not None:
            before = before.now()
            if before.model.key == found.key:
                return before
        route = Route(found, self._supervisor.pool(found), self._counters_of(found))
        if before is not None and before.pool.replicas_that_are("ready") and not before.pool.closed:
            route.predecessor = before
            route.pool.prepare()
        return route
