"""What this node has learned of the calls that it routed: by model, and by model and node. Runs in the gateway."""

from appliance.routing.hedging import Centile
from appliance.routing.site import Site

MAX_MODELS = 10_000  # the longest uncalled is forgotten first
_ANSWER_WEIGHT = 0.2  # of the newest answer in the running mean of their size


class LearnedModel:
    """One version. `sites`: by node id, this node among them. `troubled`: those whose last call there failed.
    `awaiting`: the calls that wait for a node that was lost."""

    __slots__ = ("answer_bytes", "awaiting", "centile", "considered_at_s", "sites", "troubled")

    def __init__(self) -> None:
        self.centile = Centile()  # from beginning to answer, wherever it was run
        self.answer_bytes = 0.0
        self.awaiting = 0
        self.considered_at_s = float("-inf")  # when another place for it was last thought of
        self.sites: dict[str, Site] = {}
        self.troubled: set[str] = set()

    def site(self, node_id: str) -> Site:
        site = self.sites.get(node_id)
        if site is None:
            site = self.sites[node_id] = Site()
        return site

    def loads_at(self, node_id: str, now_s: float) -> bool:
        """Whether that node loads the version for us."""
        site = self.sites.get(node_id)
        return site is not None and site.is_loading(now_s)

    def passes(self, node_id: str, now_s: float) -> bool:
        """Whether its breaker lets a call go there."""
        return node_id not in self.troubled or self.site(node_id).breaker.passes(now_s)

    def succeeded_at(self, node_id: str) -> None:
        """The node answered a call, be it with what is wrong with that."""
        if node_id in self.troubled:
            self.troubled.remove(node_id)
            self.site(node_id).breaker.succeeded()

    def failed_at(self, node_id: str, now_s: float) -> None:
        """The node refused a call, or ran it and failed."""
        self.troubled.add(node_id)
        self.site(node_id).breaker.failed(now_s)

    def answered(self, seconds: float, answer_bytes: int) -> None:
        """A call has its answer."""
        self.centile.learn(seconds)
        if answer_bytes != self.answer_bytes:
            self.answer_bytes += _ANSWER_WEIGHT * (answer_bytes - self.answer_bytes)


class Learned:
    def __init__(self, *, max_models: int = MAX_MODELS) -> None:
        self._max_models = max_models
        self._models: dict[str, LearnedModel] = {}  # the longest uncalled first

    def model(self, key: str) -> LearnedModel:
        """What is known of the version, be it nothing."""
        model = self._models.pop(key, None)
        if model is None:
            if len(self._models) >= self._max_models:
                del self._models[next(iter(self._models))]
            model = LearnedModel()
        self._models[key] = model
        return model

    def forget_node(self, node_id: str) -> None:
        """The node is gone, or has started anew: what was learned of it no longer holds."""
        for model in self._models.values():
            model.sites.pop(node_id, None)
            model.troubled.discard(node_id)
