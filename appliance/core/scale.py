"""What the owner of a box wishes of one model there: how many replicas, how soon. A struct and no behaviour."""

import msgspec


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Zero leaves a thing to the node. `min_replicas` stay warm whatever they are worth (1 pins the model)."""

    min_replicas: int = 0
    max_replicas: int = 0
    target_latency_s: float = 0.0


AS_THE_NODE_DECIDES = Scale()
