"""A call as the router sees it: which version, how large, until when, and where it may run. Pure."""

import msgspec

from appliance.routing.flight import Binding
from appliance.routing.pins import Pin
from federation.messages import ModelState


class Call(msgspec.Struct, frozen=True, gc=False):
    """`key`: the version's model_key(). `size_bytes`: of its tensors. `deadline_s` is on the router's clock.

    `local`: how this node fares with the version at this moment, None where it does not have it. `bound_to`: the node
    that keeps the sequence's state; empty where the sequence begins. `max_waiting`: so many calls may wait for the
    version's only holder to come back.
    """

    key: str
    size_bytes: int
    deadline_s: float
    local: ModelState | None = None
    rows: int = 1
    pin: Pin | None = None
    binding: Binding = "free"
    bound_to: str = ""
    max_waiting: int = 1024
