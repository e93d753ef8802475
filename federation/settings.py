"""What an owner can set of the mesh. Read by settings.py, which fills it in; handed on by node.py."""

from typing import Annotated

import msgspec
from msgspec import Meta


class MeshSettings(msgspec.Struct, frozen=True, kw_only=True):
    discover: Annotated[
        bool, Meta(description="find other nodes of the mesh by multicast DNS, and let them find this one")
    ] = True
    tags: Annotated[
        str, Meta(description="words that callers may ask for with X-Ingle-Pin: tag:WORD, separated by commas")
    ] = ""
    advertise: Annotated[
        str, Meta(description="the IP addresses that other nodes are told, separated by commas; empty: all of this box")
    ] = ""
    hedge_share: Annotated[
        float, Meta(ge=0, le=1, description="of all calls, how many may be asked of a second node too; 0: none")
    ] = 0.05
    spread: Annotated[
        bool, Meta(description="models whose calls are slow are copied to and loaded on more nodes, unasked")
    ] = True
    keep_free_bytes: Annotated[
        int,
        Meta(ge=0, description="disk that copies which the mesh makes unasked leave free, and give back"),
    ] = 1024**3
    engines: Annotated[
        bool, Meta(description="engines that TensorRT built are had of nodes with a like GPU, and given to them")
    ] = True
    heartbeat_s: Annotated[
        float, Meta(gt=0, le=3600, description="how often a silent peer is asked whether it lives, at most")
    ] = 0.25
    suspect_s: Annotated[
        float,
        Meta(ge=0.1, le=3600, description="a peer that has been silent for so long is suspect; three times that: dead"),
    ] = 0.75
