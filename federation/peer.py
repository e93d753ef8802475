"""A peer as this node knows it now: what routing, the fronts and the command line read. A struct and no behaviour."""

from typing import Literal

import msgspec

from federation.messages import Hello, Load, ModelState, Record

# joining: its link is not up yet. suspect: it did not answer in time, and may yet. dead: given up; its link is dialled
# on. draining: it answers what it has and takes no more.
PeerStanding = Literal["joining", "alive", "suspect", "draining", "dead"]

# A peer that was lost so lately may only be silent, or start again: calls of what it alone has wait for it meanwhile.
AWAITED_S = 5.0


class Peer(msgspec.Struct, kw_only=True):
    """Read it, never change it: federation/core.py does, or who made it. `models` and `holdings` are by model_key().
    `outside`: it is no node, but a server that takes calls and nothing else: no orders, no copies."""

    node_id: str
    name: str
    standing: PeerStanding
    since_s: float  # when it came to stand so, on time.monotonic()'s clock
    hello: Hello
    rtt_s: float = 0.0  # the least of the last probes; 0 where none came back yet
    bytes_per_s: float = 0.0  # measured; 0 where not yet
    load: Load = Load()
    models: dict[str, ModelState] = {}
    holdings: dict[str, Record] = {}
    outside: bool = False
