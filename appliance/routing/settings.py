"""What an owner can set of scaling and placement. Read by settings.py, which fills it in; handed on by node.py."""

from typing import Annotated

import msgspec
from msgspec import Meta


class RoutingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults for every model; what was set for one model comes before them."""

    target_latency_s: Annotated[
        float,
        Meta(gt=0, description="another replica of a model is started so that its calls take no longer than this"),
    ] = 0.25
    max_replicas: Annotated[
        int, Meta(ge=0, description="the most replicas of one model; 0: as many as there are cores")
    ] = 0
